"""RMSprop and AdamW on LightBench's tasks that are formulas, each at the learning rate that a sweep chooses.

A sweep trains all rates and seeds of a task in one program; a run ends when it wins. The chosen rate has the lowest
final score in the mean over seeds, and solves the task if most seeds win with it. If it does not, longer sweeps follow.
As in LightBench, what is harder than a failed task of the same family counts as failed without being tried.

Writes the tables of docs/evidence.md to docs/evidence. What was trained is stored in .cache as it goes, so that a run
that was stopped can go on.
"""

import argparse
import functools
import itertools
import json
import pathlib

import evidence_file
import jax
import jax.numpy as jnp
import lightbench_report as report
import numpy as np
import optax
from lightbench_tasks import TASKS
from tqdm import tqdm

from rmsprop_optax import diagnostics, rmsprop, sweep

RAW = pathlib.Path(__file__).parents[2] / ".cache" / "lightbench.json"
RATES, SEEDS, BUDGETS = 2.0 ** np.arange(-15, 6), 3, (4096, 25600)
MEMBERS = {
    "RMSprop": rmsprop,
    "centered": functools.partial(rmsprop, centered=True),
    "heavy-ball momentum": functools.partial(rmsprop, momentum=0.9),
    "average momentum": functools.partial(rmsprop, momentum=0.9, average_momentum=True),
    "AdamW": functools.partial(optax.adamw, weight_decay=0.0),
}
KEY = jax.eval_shape(lambda: jax.random.key(0))


@jax.custom_vjp
def reported(value, gradients, params):
    """Return a value whose gradients are given."""
    return value


reported.defvjp(
    lambda value, gradients, params: (value, gradients),
    lambda gradients, _: (jnp.zeros(()), jax.tree.map(jnp.zeros_like, gradients), gradients),
)


@functools.cache
def loss_of(task):
    """Return a loss for the sweep: its value is the score, its gradients are the task's; both are 0 after the win.

    The next memory takes the place of a gradient, and `trained` writes it down.
    """

    def loss_fn(params, batch):
        x, memory = jax.lax.stop_gradient((params["x"], params["memory"]))  # a root has no derivative at 0
        loss, gradients = jax.value_and_grad(task.loss)(x, memory, batch)
        score = jnp.where(jnp.isfinite(loss), task.score(x, memory, loss), jnp.nan)
        wins = (score <= task.target) & (memory["step"] % task.every == 0)
        won = jnp.maximum(memory["won"], wins)
        after = memory | task.after(memory, x, batch) | {"step": memory["step"] + 1, "won": won}
        gradients = jax.tree.map(lambda g: jnp.where(won > 0, 0, g), gradients)
        return reported(jnp.where(won > 0, 0, score), {"x": gradients, "memory": after}, params)

    return loss_fn


@functools.cache
def trained(member):
    """Return a factory of the member for `x`; for the memory, what replaces it by its gradient."""
    replace = optax.stateless(lambda new, old: jax.tree.map(jnp.subtract, new, old))
    labels = {"x": "x", "memory": "memory"}
    return lambda rate: optax.partition({"x": MEMBERS[member](rate), "memory": replace}, labels)


def start_of(task, level, key):
    x, memory = task.start(key, level)
    memory = memory | {"level": jnp.float32(level), "step": jnp.zeros(()), "won": jnp.zeros(())}
    return {"x": x, "memory": memory}


@functools.cache
def starts(task):
    """Return a function that starts a run for each difficulty: one for all whose shapes are equal, compiled once.

    The seed says which: the first difficulty has the seeds 0, 1 and 2, the next 3, 4 and 5.
    """
    levels = list(task.difficulties.values())
    shapes = [str(jax.eval_shape(functools.partial(start_of, task, level), jax.random.key(0))) for level in levels]

    def of(shape):
        equal = [i for i, other in enumerate(shapes) if other == shape]

        def start(key):
            every = [start_of(task, levels[i], key) for i in equal]
            chosen = jnp.argmax(jnp.array(equal) == jax.random.key_data(key)[-1] // SEEDS)
            return jax.tree.map(lambda *leaves: jnp.stack(leaves)[chosen], *every)

        return start

    made = {shape: of(shape) for shape in shapes}
    return {difficulty: made[shape] for difficulty, shape in zip(task.difficulties, shapes, strict=True)}


def seeds_of(task, difficulty):
    first = SEEDS * list(task.difficulties).index(difficulty)
    return list(range(first, first + SEEDS))


def noise_of(task, level, steps):
    return None if task.noise is None else task.noise(np.random.default_rng(0), steps, level)


def train(task, difficulty, member, steps, rates=RATES):
    return sweep.learning_rates(
        trained(member),
        loss_of(task),
        starts(task)[difficulty],
        noise_of(task, task.difficulties[difficulty], steps),
        rates,
        steps=steps,
        seeds=seeds_of(task, difficulty),
        diverged_above=np.inf,
        at_once=len(rates) * SEEDS,
    )


def attempt(task, difficulty, member, budgets, rates=RATES):
    """Sweep, with the next larger number of steps while it fails; return what came of the chosen rate."""
    for budget in budgets:
        steps = budget * task.longer + 1  # the last step's score is the one after so many updates
        found = train(task, difficulty, member, steps, rates)
        won = found.losses <= np.float32(task.target)  # rates, seeds, steps
        won &= np.arange(steps) % task.every == 0
        row = {"solved": False, "rate": found.best, "budget": budget * task.longer, "at some rate": bool(won.any())}
        if found.best is not None:
            chosen = int(np.argmax(found.learning_rates == found.best))
            wins = won[chosen].any(1)
            row |= {"solved": bool(wins.sum() * 2 > SEEDS), "seeds": int(wins.sum())}
            row |= {"score": float(np.median(found.final[chosen]))}
        if row["solved"]:
            return row | {"steps": int(np.median(won[chosen].argmax(1)[wins]))}
    return row


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def watch(name, member, steps, rate, params, noise):
    """Train once and measure the last 256 steps."""
    task, tx = TASKS[name], MEMBERS[member](rate)

    def advance(carry, i):
        x, state, memory, _ = carry
        batch = None if noise is None else jax.tree.map(lambda leaf: leaf[i], noise)
        loss, gradients = jax.value_and_grad(task.loss)(x, memory, batch)
        updates, new = tx.update(gradients, state, x)
        after = memory | task.after(memory, x, batch) | {"step": memory["step"] + 1}
        return (optax.apply_updates(x, updates), new, after, updates), (loss, gradients, batch)

    def measured(carry, i):
        x, _, memory, previous = carry
        carry, (loss, gradients, _) = advance(carry, i)
        log = diagnostics.measure(gradients, carry[3], carry[1], x, rate, quantiles=(0.5,))["all"]
        turns = diagnostics.oscillation(previous, carry[3])["all"]
        size = jnp.sqrt(sum(jnp.sum(p**2) for p in jax.tree.leaves(x)) / sum(p.size for p in jax.tree.leaves(x)))
        return carry, log | turns | {"score": task.score(x, memory, loss), "weight_rms": size}

    x, memory = params["x"], params["memory"]
    carry = (x, tx.init(x), memory, jax.tree.map(jnp.zeros_like, x))
    carry = jax.lax.fori_loop(0, steps - 256, lambda i, carry: advance(carry, i)[0], carry)
    return jax.tree.map(jnp.ravel, jax.lax.scan(measured, carry, jnp.arange(steps - 256, steps))[1])


def diagnose(name, rows, family):
    """Watch the best member of the family where it failed, if no member solved all."""
    task = TASKS[name]
    failed = [d for d in task.difficulties if not any(rows[m].get(d, {}).get("solved") for m in family)]
    tried = [m for m in family if list(rows[m].values())[-1]["rate"]]
    if not failed or not tried:
        return {"failed": failed} if failed else None
    member = max(tried, key=lambda m: (len(rows[m]), -list(rows[m].values())[-1]["score"]))
    difficulty, row = list(rows[member].items())[-1]
    params = start_of(task, task.difficulties[difficulty], jax.random.key(0))
    noise = noise_of(task, task.difficulties[difficulty], row["budget"])
    log = jax.device_get(watch(name, member, row["budget"], jnp.float32(row["rate"]), params, noise))
    medians = {key: float(f"{np.median(x):.3g}") for key, x in log.items()}
    of = {"member": member, "difficulty": difficulty, "rate": row["rate"], "steps": row["budget"]}
    return {"failed": failed, **of, **medians}


def budgets(task, level):
    """Return the numbers of steps to try: fewer where gradients can't lead to a win, or are very many."""
    size = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(lambda key: task.start(key, level)[0], KEY)))
    return [b for b in BUDGETS if b == BUDGETS[0] or (task.winnable and b * size < 4e8)]


def go_on(name, member, rows):
    """Try the difficulties in order until one fails."""
    task = TASKS[name]
    for difficulty, level in task.difficulties.items():
        row = rows.get(difficulty, {"solved": False, "budget": 0})
        longer = [b for b in budgets(task, level) if b * task.longer > row["budget"]]
        if not row["solved"] and longer:
            row = rows[difficulty] = attempt(task, difficulty, member, longer)
        if not row["solved"]:
            break
    return rows


def train_all():
    """Train what is missing in the file of raw results."""
    RAW.parent.mkdir(exist_ok=True)
    done = json.loads(RAW.read_text()) if RAW.exists() else {}
    for member, name in tqdm(list(itertools.product(MEMBERS, TASKS)), unit="families", smoothing=0):
        rows = done.setdefault(name, {}).setdefault(member, {})
        before = json.dumps(rows)
        if json.dumps(go_on(name, member, rows)) != before:
            RAW.write_text(json.dumps(done, indent=1) + "\n")
    return done


def write(name, table, **more):
    columns, rows = table
    evidence_file.write(name, "python tests/benchmarks/lightbench.py", "one core of two", columns, rows, **more)


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    done, members = train_all(), list(MEMBERS)
    family = [member for member in members if member != "AdamW"]
    why = {name: diagnose(name, done[name], family) for name in tqdm(TASKS, unit="diagnoses")}
    write("lightbench", report.of_members(done, members, family), trained=done, why=why)
    write("lightbench_families", report.of_families(done, members))
    write("lightbench_failures", report.of_failures(done, why))


if __name__ == "__main__":
    main()
