"""`rmsprop`, with switches, replays what 25 libraries did with recorded gradients."""

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from golden_files import Case

from rmsprop_optax import rmsprop

NOT_COVERED = {
    "momentum on the raw gradient (fastai)": lambda c: c["momentum_on"] == "grad",
    "eps subtracted inside the root, a bug of tfjs": lambda c: c["eps_mode"] == "inside_neg",
    "a gradient taken at a shifted point (climin)": lambda c: c["nesterov"] == "lookahead",
    "a mask that depends on the sign of the step (timm's caution)": lambda c: c.get("caution"),
    "a decay by the learning rate's square (timm's corrected decay)": lambda c: c["wd_mode"] == "decoupled_corrected",
    "clipping between decay and rule, or of the weights (MXNet)": lambda c: (
        c["weight_clip"] or (c["clip"] and c["clip"][0] == "value_after_wd")
    ),
    "centered with bias_correction, refused": lambda c: c["centered"] and c["bias_correction"],
}


def why_not(case: Case) -> str | None:
    return next((why for why, applies in NOT_COVERED.items() if applies(case.switches)), None)


ALL = golden_files.cases()
COVERED = [case for case in ALL if why_not(case) is None]


def from_switches(case: Case) -> optax.GradientTransformation:
    """Build the optimizer a case describes from `rmsprop` and optax's links."""
    c, rates = case.switches, jnp.asarray(case.learning_rates)
    tx = rmsprop(
        lambda count: rates[count],
        decay=c["decay"],
        eps=c["eps"],
        initial_scale=c["acc_init"],
        eps_in_sqrt=c["eps_mode"] == "inside",
        centered=c["centered"],
        momentum=c["momentum"] or None,
        nesterov=c["nesterov"] == "trace" and c["momentum"] > 0,
        bias_correction=c["bias_correction"],
        lr_in_momentum=c["lr_in_momentum"],
        weight_decay=c["weight_decay"] or None,
        decoupled_weight_decay=c["wd_mode"] == "decoupled",
    )
    links = [optax.scale(-1.0)] if c["maximize"] else []
    kind, limit = c["clip"] or (None, None)
    if kind == "value":
        links.append(optax.clip(limit))
    elif kind == "global_norm":
        links.append(optax.clip_by_global_norm(limit))
    elif kind == "norm":
        each = {name: optax.clip_by_global_norm(limit) for name in case.params}
        links.append(optax.partition(each, {name: name for name in case.params}))
    tx = optax.chain(*links, tx)
    return optax.contrib.split_real_and_imaginary(tx) if c["complex"] == "real_pair" else tx


def replay(tx, case: Case):
    """Return the parameters after each step, and the final state."""
    params = jax.tree.map(jnp.asarray, case.params)
    state, steps = tx.init(params), []

    @jax.jit  # one program for all leaves
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for grads in case.grads:
        params, state = step(params, state, jax.tree.map(jnp.asarray, grads))
        steps.append(jax.tree.map(np.asarray, params))
    return steps, state


def in_our_terms(case: Case):
    """Return the recorded final state as our moments: the variance for centered ones, our sign for the trace."""
    named = {case.meaning[key]: tree for key, tree in case.final_state.items() if key in case.meaning}
    if case.switches["complex"] == "real_pair" or not named.keys() <= {"nu", "mu", "mom", "-mom"}:
        return {}
    moments = {"nu": named["nu"]} if "nu" in named else {}
    if case.switches["centered"] and "mu" in named:
        moments["mu"] = named["mu"]
        moments["nu"] = {leaf: nu - np.abs(named["mu"][leaf]) ** 2 for leaf, nu in named["nu"].items()}
    elif case.switches["centered"]:
        moments = {}
    ours = -1 if case.switches["lr_in_momentum"] else 1  # inside the momentum the learning rate brings its sign
    for key, theirs in (("mom", 1), ("-mom", -1)):
        if key in named:
            moments["trace"] = {leaf: ours * theirs * x for leaf, x in named[key].items()}
    return moments


def difference(ours, theirs) -> float:
    """The largest difference over steps and leaves, relative to a number above 1 in magnitude."""
    pairs = [(a[k], b[k]) for a, b in zip(ours, theirs, strict=True) for k in b]
    return max(np.max(np.abs(a - b) / np.maximum(1, np.abs(b)), initial=0) for a, b in pairs)


@pytest.mark.parametrize("case", COVERED, ids=lambda case: case.id)
def test_rmsprop_replays_the_recorded_trajectory(case):
    with jax.enable_x64(True):
        ours, state = replay(from_switches(case), case)
        moments = {name: jax.tree.map(np.asarray, optax.tree.get(state, name)) for name in ("nu", "mu", "trace")}
    assert all(a[k].dtype == case.dtype for a in ours for k in a)
    assert difference(ours, case.trajectory) <= case.tolerance["params"]

    recorded = in_our_terms(case)
    for name in recorded.keys() & {name for name, tree in moments.items() if tree is not None}:
        for leaf, theirs in recorded[name].items():
            scale = np.max(np.abs(theirs), initial=0) or 1
            assert np.max(np.abs(moments[name][leaf] - theirs), initial=0) <= case.tolerance["state"] * scale, (
                name,
                leaf,
            )


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_the_numpy_reference_replays_the_recorded_trajectory(case):
    wide = np.complex128 if case.dtype.kind == "c" else np.float64
    widen = lambda tree: {name: x.astype(wide) for name, x in tree.items()}  # noqa: E731
    theirs, _ = reference.trajectory(case.switches, widen(case.params), map(widen, case.grads), case.learning_rates)
    finite = [{k: np.isfinite(v) for k, v in step.items()} for step in case.trajectory]
    for step, recorded, ok in zip(theirs, case.trajectory, finite, strict=True):
        for name in recorded:
            assert np.array_equal(np.isfinite(step[name]), ok[name])
            x, y = step[name][ok[name]], recorded[name][ok[name]]
            assert np.max(np.abs(x - y) / np.maximum(1, np.abs(y)), initial=0) <= case.tolerance["params"]


def test_every_case_is_covered_or_has_a_reason():
    reasons = {why_not(case) for case in ALL} - {None}
    assert reasons == set(NOT_COVERED)
    assert len(COVERED) == 424
