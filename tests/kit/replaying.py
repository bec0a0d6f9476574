"""Replay a recorded case: which can be replayed, the path our optimizer takes, and how far that is from the record."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kit import training
from kit.trajectories import Case

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


def replay(tx, case: Case, state=None, first: int = 0):
    """Return the parameters after each step of a case, from step `first` on, and the last state, as NumPy arrays."""
    params = jax.tree.map(jnp.asarray, case.trajectory[first - 1] if first else case.params)
    grads = [jax.tree.map(jnp.asarray, g) for g in case.grads[first:]]
    return jax.tree.map(np.asarray, training.path(tx, grads, params, state))


def in_our_terms(case: Case):
    """Return the recorded final state as our moments: the variance for centered ones, our sign for the trace."""
    named = {case.meaning[key]: tree for key, tree in case.final_state.items() if key in case.meaning}
    if case.switches["complex"] == "real_pair" or not named.keys() <= {"nu", "mu", "mom", "-mom"}:
        return {}
    moments = {"nu": named["nu"]} if "nu" in named else {}
    if case.switches["centered"] and "mu" in named:
        variance = {leaf: nu - np.abs(named["mu"][leaf]) ** 2 for leaf, nu in named["nu"].items()}
        moments = {"variance": variance, "mu": named["mu"]}
    elif case.switches["centered"]:
        moments = {}
    ours = -1 if case.switches["lr_in_momentum"] else 1  # inside the momentum the learning rate brings its sign
    for key, theirs in (("mom", 1), ("-mom", -1)):
        if key in named:
            moments["ema" if case.switches.get("average_momentum") else "trace"] = {
                leaf: ours * theirs * x for leaf, x in named[key].items()
            }
    return moments


def difference(ours, theirs) -> float:
    """The largest difference over steps and leaves, relative to a number above 1 in magnitude."""
    pairs = [(a[k], b[k]) for a, b in zip(ours, theirs, strict=True) for k in b]
    return max(np.max(np.abs(a - b) / np.maximum(1, np.abs(b)), initial=0) for a, b in pairs)


def state_difference(state, case: Case) -> float:
    """The largest difference from the recorded final state, relative to the largest number of the same leaf."""
    largest = [0.0]
    for name, tree in in_our_terms(case).items():
        ours = optax.tree.get(state, name)
        if ours is None and not case.switches["momentum"]:
            continue  # a library may keep a buffer at momentum 0, where there is none here
        for leaf, theirs in tree.items():
            scale = np.max(np.abs(theirs), initial=0) or 1
            largest.append(np.max(np.abs(ours[leaf] - theirs), initial=0) / scale)
    return max(largest)
