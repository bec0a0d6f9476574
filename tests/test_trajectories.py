"""`rmsprop`, with switches, replays what 27 libraries did with recorded gradients."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit import reference, trajectories
from kit.calls import row_of
from kit.replaying import NOT_COVERED, difference, replay, state_difference, why_not
from kit.trajectories import Case

from rmsprop_optax import rmsprop
from rmsprop_optax.dialects import ROWS

ALL = trajectories.cases()
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
        average_momentum=c.get("average_momentum", False),
        lr_in_momentum=c["lr_in_momentum"],
        weight_decay=c["weight_decay"] or None,
        decoupled_weight_decay=c["wd_mode"] == "decoupled",
        weight_decay_mask=c.get("decays") and {name: name in c["decays"] for name in case.params},
    )
    links = [optax.scale(-1.0)] if c["maximize"] else []
    kind, limit, *floor = c["clip"] or (None, None)
    if kind == "value":
        links.append(optax.clip(limit))
    elif kind == "global_norm":
        links.append(optax.clip_by_global_norm(limit))
    elif kind == "norm":
        each = {name: optax.clip_by_global_norm(limit) for name in case.params}
        links.append(optax.partition(each, {name: name for name in case.params}))
    elif kind == "adaptive":
        upper = lambda p: limit * jnp.maximum(*floor, jnp.linalg.norm(jnp.ravel(p)))  # noqa: E731
        clip = lambda g, p: g / jnp.maximum(1, jnp.linalg.norm(jnp.ravel(g)) / upper(p))  # noqa: E731
        links.append(optax.stateless(lambda updates, params: jax.tree.map(clip, updates, params)))
    tx = optax.chain(*links, tx)
    return optax.contrib.split_real_and_imaginary(tx) if c["complex"] == "real_pair" else tx


def marked(case):
    """Leave to the full matrix double precision, and libraries with a function: test_dialects.py replays those."""
    elsewhere = ROWS[row_of(case)].function or case.dtype not in ("float32", "complex64")
    return pytest.param(case, id=case.id, marks=[pytest.mark.full] if elsewhere else [])


@pytest.mark.parametrize("case", [marked(case) for case in COVERED])
def test_rmsprop_replays_the_recorded_trajectory(case):
    with jax.enable_x64(True):
        ours, state = replay(from_switches(case), case)
    assert all(a[k].dtype == case.dtype for a in ours for k in a)
    assert difference(ours, case.trajectory) <= case.tolerance["params"]
    assert state_difference(state, case) <= case.tolerance["state"]


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
    assert len(COVERED) == 466


def test_the_readme_says_how_many_runs_are_replayed():
    readme = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
    libraries = {case.library for case in ALL}
    assert f"{len(COVERED)} of {len(ALL)} recorded runs of {len(libraries)} real\n  libraries" in readme
