"""What the note says of RMSprop, put to the test on three tasks: the numbers behind docs/the_note.md.

Each optimizer gets its own learning rate from a sweep over five seeds; what is reported are ten runs at that rate from
other seeds. Results and pictures go into figures/, with --record into docs, where the tables of the page are then
brought up to date. The whole took 11 minutes of processor time on two cores.
"""

import functools
import json
import platform

import jax
import jax.numpy as jnp
import numpy as np
import optax
import recording
from the_note import report, tasks
from the_note.tasks import OPTIMIZERS
from tqdm import tqdm

from rmsprop_optax import diagnostics, rmsprop, sweep


def tune(task, make_tx, octaves, spacing, seeds):
    """Sweep; return the suggested rate, what led to it, and what the figure shows of it."""
    rates = 2.0 ** np.arange(octaves[0], octaves[1] + spacing / 2, spacing)
    found = sweep.learning_rates(make_tx, task.loss_fn, task.start, task.batches, rates, seeds=seeds)
    rate, reason = found.suggest()
    return {
        "rate": rate,
        "reason": reason,
        "edge": found.edge,
        "room": np.log2(found.edge / rate),  # how far above the suggestion training is stable, in factors of two
        "edge_is_last": found.edge == rates[-1],
        "usable": usable(found),
        "rates": rates,
        "first": found.losses[..., 0],
        "finals": found.final,
        "diverged_at": found.diverged_at,
    }


def usable(found, share=0.9):
    """Count the factors of two, unbroken round the best rate, that reach this share of the best's gain in loss."""
    first, final = found.losses[..., 0].mean(), found.final.mean(1)
    good, best = first - final >= share * (first - final.min()), int(final.argmin())
    unbroken = np.logical_and.accumulate
    count = unbroken(good[best:]).sum() + unbroken(good[best::-1]).sum() - 1
    return (count - 1) * np.log2(found.learning_rates[1] / found.learning_rates[0])


@functools.partial(jax.jit, static_argnums=(0, 1))
def watch(make_tx, loss_fn, rate, params, batches):
    """Train; return of each step the loss, how far it went, how far from the start it is, and what it took back."""
    tx = make_tx(rate)

    def step(carry, batch):
        now, state, previous = carry
        loss, grads = jax.value_and_grad(loss_fn)(now, batch)
        updates, state = tx.update(grads, state, now)
        now = optax.apply_updates(now, updates)
        turns = diagnostics.oscillation(previous, updates)["all"]
        away = optax.tree.norm(jax.tree.map(jnp.subtract, now, params))
        return (now, state, updates), {"loss": loss, "length": optax.tree.norm(updates), "away": away} | turns

    return jax.lax.scan(step, (params, tx.init(params), jax.tree.map(jnp.zeros_like, params)), batches)[1]


def trials(task, make_tx, rate):
    """Watch runs from fresh seeds and sum them up, one number for each seed.

    What concerns the way is measured on the way to the target, or to the end if it is never met.
    """
    runs = []
    for seed in task.fresh:
        order = np.random.default_rng(seed).permutation(len(jax.tree.leaves(task.batches)[0]))
        batches = jax.tree.map(lambda x, order=order: x[order], task.batches)
        runs.append(jax.device_get(watch(make_tx, task.loss_fn, rate, task.start(jax.random.key(seed)), batches)))
    runs = jax.tree.map(lambda *leaves: np.stack(leaves), *runs)
    losses, last = runs["loss"], max(1, runs["loss"].shape[1] // 10)
    smooth = np.stack([np.convolve(x, np.ones(10) / 10, mode="valid") for x in losses])
    met = (smooth <= task.target).any(1)
    ends = np.where(met, np.argmax(smooth <= task.target, 1) + 10, losses.shape[1])
    return {
        "final": losses[:, -last:].mean(1),
        "early": losses[:, last // 2 : last].mean(1),
        "steps": np.where(met, ends, np.inf),
        "detour": [x[:e].sum() / a[e - 1] for x, a, e in zip(runs["length"], runs["away"], ends, strict=True)],
        "reversed": [x[1:e].mean() for x, e in zip(runs["reversed"], ends, strict=True)],
        "undone": [x[1:e].mean() for x, e in zip(runs["undone"], ends, strict=True)],
        "curve": losses.mean(0),
        "curve_undone": runs["undone"].mean(0),
    }


def compare(task, bar):
    """Give each optimizer its rate, and watch it."""
    found = {}
    for name, make_tx in OPTIMIZERS.items():
        swept = tune(task, make_tx, task.octaves[name], task.spacing, task.seeds)
        found[name] = swept | trials(task, make_tx, swept["rate"])
        bar.update(2 * task.cost)
    return found


def tried(task, make_tx, octaves, bar):
    swept = tune(task, make_tx, octaves, *task.coarse)
    runs = trials(task, make_tx, swept["rate"])
    bar.update(task.cost)
    return {key: swept[key] for key in ("rate", "edge", "room", "edge_is_last")} | {
        key: runs[key] for key in ("final", "early", "steps")
    }


def adaptation(task, bar):
    """Take the rate per parameter away: one for each tensor, one for all."""
    low, high = task.octaves["RMSprop"]
    rows = {"element": rmsprop} | {over: functools.partial(tasks.averaged, over=over) for over in ("tensor", "all")}
    return {name: tried(task, make_tx, (low, high + 2), bar) for name, make_tx in rows.items()}


def bias(task, decays, bar):
    """Leave the bias, or correct it."""
    found = {}
    for decay in decays:
        ways = {"plain": functools.partial(rmsprop, decay=decay) if decay != 0.9 else rmsprop}
        ways["corrected"] = functools.partial(rmsprop, decay=decay, bias_correction=True)
        found[str(decay)] = {way: tried(task, tx, task.octaves["RMSprop"], bar) for way, tx in ways.items()}
    return found


def effects_of_eps(task, rate, bar):
    """Sweep eps, at the rate that suits its default."""
    values, make_tx = 2.0 ** np.arange(-40, 1, 4), functools.partial(rmsprop, rate)
    found = sweep.learning_rates(
        lambda eps: make_tx(eps=eps), task.loss_fn, task.start, task.batches, values, seeds=task.seeds
    )
    bar.update(task.cost)
    return {"eps": values, "final": found.final}


def spread(task, rate, bar, every=10):
    """Follow the quantiles of RMSprop's effective rates, of elements that ever had a gradient; count the others."""

    @jax.jit
    def advance(params, state, batch):
        grads = jax.grad(task.loss_fn)(params, batch)
        updates, state = rmsprop(rate).update(grads, state, params)
        (rates,) = diagnostics.effective_learning_rate(state, rate).values()
        rates = jax.tree.map(lambda r, n: jnp.where(n > 0, r, jnp.nan).ravel(), rates, optax.tree.get(state, "nu"))
        rates = jnp.concatenate(jax.tree.leaves(rates))
        return optax.apply_updates(params, updates), state, rates

    seeds, never = [], []
    for seed in task.fresh[:5]:
        params, rows = task.start(jax.random.key(seed)), []
        state = rmsprop(rate).init(params)
        for i in range(len(jax.tree.leaves(task.batches)[0])):
            params, state, rates = advance(params, state, jax.tree.map(lambda x, i=i: x[i], task.batches))
            if (i + 1) % every == 0:
                rows.append(np.nanquantile(rates, [0.05, 0.25, 0.5, 0.75, 0.95]))
        seeds.append(np.stack(rows))
        never.append(np.isnan(rates).mean())
    bar.update(task.cost)
    return {
        "quantiles": np.exp(np.log(seeds).mean(0)),
        "steps": every * np.arange(1, len(rows) + 1),
        "ratio": [rows[-1, -1] / rows[-1, 0] for rows in seeds],
        "never": never,
    }


def suggestion(task, rates, bar):
    """Compare each suggested rate with half of it and twice it."""
    found = {}
    for name, rate in rates.items():
        around = [rate / 2, rate, rate * 2]
        run = sweep.learning_rates(OPTIMIZERS[name], task.loss_fn, task.start, task.batches, around, seeds=task.fresh)
        found[name] = dict(zip(("half", "itself", "twice"), run.final, strict=True)) | {"rate": rate}
        bar.update(task.cost)
    return found


def conditions(values, shrink, bar):
    """Make the bowl steeper, with its axes along the parameters and askew."""
    found = {"condition": values}
    for condition in values:
        for how in ("along", "askew"):
            task = shrink(tasks.bowl(condition, askew=how == "askew"))
            edge = np.log2(2 / condition)
            octaves = {"SGD": (edge - 3, edge + 1), "momentum": (edge - 5, edge + 2), "RMSprop": (-10, 1)}
            for name, around in octaves.items():
                swept = tune(task, OPTIMIZERS[name], around, *task.coarse)
                left = swept["finals"][swept["finals"].mean(1).argmin()] / swept["first"][0]
                found.setdefault(name, {}).setdefault(how, []).append(left)
            bar.update(3 * task.cost)
    return found


def measure(quick, path):
    """Measure everything; what is done is written after each task."""
    shrink = tasks.shrunk if quick else lambda task: task
    found = (
        {"bowl": shrink(tasks.bowl())} if quick else {f.__name__: f() for f in (tasks.bowl, tasks.digits, tasks.text)}
    )
    decays, steepness = ((0.9,), (10.0,)) if quick else ((0.9, 0.99, 0.999), (1.0, 10.0, 100.0, 1000.0, 10000.0))
    pieces = 16 + 2 * len(decays)  # of each task
    versions = {module.__name__: module.__version__ for module in (jax, optax)} | {"python": platform.python_version()}
    results = {"versions": versions, "targets": {name: task.target for name, task in found.items()}}
    results |= {claim: {} for claim in ("compare", "adaptation", "bias", "eps", "spread", "suggestion")}
    total = sum(task.cost * pieces for task in found.values()) + 6 * len(steepness)
    with tqdm(total=total, unit="piece", smoothing=0) as bar:
        for name, task in found.items():
            bar.set_description(name)
            own = results["compare"][name] = compare(task, bar)
            rates = {key: own[key]["rate"] for key in ("SGD", "RMSprop", "Adam")}
            results["suggestion"][name] = suggestion(task, rates, bar)
            results["spread"][name] = spread(task, rates["RMSprop"], bar)
            results["eps"][name] = effects_of_eps(task, rates["RMSprop"], bar)
            results["adaptation"][name] = adaptation(task, bar)
            results["bias"][name] = bias(task, decays, bar)
            report.write(results, path)
        bar.set_description("conditions")
        results["conditions"] = conditions(steepness, shrink, bar)
    report.write(results, path)


def main():
    parser = recording.parser(__doc__)
    parser.add_argument(
        "--redraw", action="store_true", help="measure nothing; draw from the_note.json of an earlier run"
    )
    args = parser.parse_args()
    figures = recording.figures(args.record)
    path = (recording.DOCS if args.record else figures) / "the_note.json"
    if not args.redraw:
        measure(args.quick, path)
    report.draw(path, figures)
    if args.record:
        recording.rewrite("the_note", report.tables(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
