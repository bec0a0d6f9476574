"""Each dialect takes the path that its library took, called as the library was; and where two libraries disagree."""

import collections
import dataclasses
import inspect
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit import reference, training, trajectories
from kit.calls import from_function, from_row, row_of
from kit.replaying import NOT_COVERED, difference, replay, state_difference, why_not
from kit.trajectories import Case

from rmsprop_optax import Variant, dialects, moments, rmsprop
from rmsprop_optax.dialects import ROWS, VARIANTS

FUNCTIONS = {name: row for name, row in ROWS.items() if row.function}


REFUSED = "optax ignores nesterov without momentum; here it is refused"


def reason(case: Case) -> str | None:
    """Say why a recorded case is not claimed, or None."""
    ignored = case.library == "optax" and "nesterov" in case.hparams and "momentum" not in case.hparams
    return why_not(case) or (REFUSED if ignored else None)


ALL = trajectories.cases()
CLAIMED = [case for case in ALL if reason(case) is None]


SOME = {"dreamer_v3": ("warmup", "decay_by_name"), "levanter": ("defaults", "by_list_and_default")}


def marked(case):
    """Leave to the full matrix double precision, and libraries without a function: test_trajectories.py has those.

    Of the two that compile a program for each case, two cases will do.
    """
    always = ROWS[row_of(case)].function and case.dtype in ("float32", "complex64")
    always = always and case.name in SOME.get(case.library, (case.name,))
    return pytest.param(case, id=case.id, marks=[] if always else [pytest.mark.full])


@pytest.mark.parametrize("case", [marked(case) for case in CLAIMED])
def test_the_dialect_called_as_the_library_was_replays_its_trajectory(case):
    row = ROWS[row_of(case)]
    with jax.enable_x64(True):
        ours, state = replay(from_function(case) if row.function else from_row(case), case)
    assert all(a[k].dtype == case.dtype for a in ours for k in a)
    assert difference(ours, case.trajectory) <= case.tolerance["params"]
    assert state_difference(state, case) <= case.tolerance["state"]


def test_every_recorded_case_is_claimed_or_has_a_reason():
    assert {reason(case) for case in ALL} - {None} == {*NOT_COVERED, REFUSED}
    excluded = collections.Counter(case.library for case in ALL if reason(case))
    assert excluded == {"fastai": 17, "climin": 4, "timm": 4, "optax": 3, "tfjs": 3, "mxnet": 2}


def test_every_function_but_the_lecture_s_replays_recorded_cases():
    recorded = {row_of(case) for case in CLAIMED}
    assert FUNCTIONS.keys() - recorded == {"hinton"}


@pytest.mark.parametrize("case", CLAIMED, ids=lambda case: case.id)
def test_the_row_names_the_library_s_arguments_and_state(case):
    row = ROWS[row_of(case)]
    for native, meaning in case.meaning.items():
        momentum = "ema" if row.variant.average_momentum else "trace"
        ours = {"nu": "nu", "mu": "mu", "mom": momentum, "-mom": momentum}[meaning]
        if ours in row.state:
            assert row.state[ours] == native
            assert ours != "trace" or row.negated_trace == (meaning == "-mom")
    for ours, canonical in (("decay", "decay"), ("eps", "eps"), ("momentum", "momentum"), ("weight_decay", None)):
        if ours in row.arguments and row.arguments[ours] not in case.hparams and canonical and not case.rounded:
            assert (row.defaults[ours] or 0.0) == case.switches[canonical]


@pytest.mark.parametrize("row", FUNCTIONS.values(), ids=FUNCTIONS)
def test_the_function_has_the_row_s_arguments_in_order_and_with_its_defaults(row):
    parameters = inspect.signature(getattr(dialects, row.function)).parameters
    names = [name for name in parameters if name in row.arguments.values()]
    assert names == list(row.arguments.values())
    for ours, theirs in row.arguments.items():
        assert parameters[theirs].default == row.defaults.get(ours, inspect.Parameter.empty), theirs
    for switch, argument in row.set_by.items():
        if argument not in row.arguments.values():
            assert parameters[argument].default == getattr(row.variant, switch), argument


@pytest.mark.parametrize("row", [row for key, row in FUNCTIONS.items() if key != "optax"], ids=lambda row: row.function)
def test_a_learning_rate_below_0_is_refused(row):
    name = row.arguments["learning_rate"]
    with pytest.raises(ValueError, match=rf"`{name}` must be a number in \[0, inf\), got -0.1"):
        getattr(dialects, row.function)(**{name: -0.1})


def test_optax_s_learning_rate_is_left_to_rmsprop():
    def outcome(make):
        try:
            return path(make(-0.1), GRADS).tolist()
        except ValueError as error:
            return str(error)

    assert outcome(dialects.optax_rmsprop) == outcome(rmsprop)


def test_a_variant_compares_and_hashes_and_is_not_taken_for_a_schedule():
    assert VARIANTS["keras"] == VARIANTS["sonnet"] != VARIANTS["tf1"]
    assert hash(VARIANTS["keras"]) == hash(VARIANTS["sonnet"])
    assert not callable(VARIANTS["keras"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        VARIANTS["keras"].eps_in_sqrt = False
    with pytest.raises(TypeError):
        VARIANTS["mine"] = Variant()
    plain = inspect.signature(rmsprop).parameters
    assert all(plain[name].default == switch for name, switch in vars(Variant()).items() if name in plain)


# Where two frameworks, given the same numbers, disagree.


def path(tx, grads, params=1.0):
    """Return the parameters after each step."""
    params = jnp.asarray(params)
    return np.array(training.path(tx, [jnp.asarray(g, params.dtype) for g in grads], params)[0])


GRADS = np.random.default_rng(0).normal(size=10)


def stepped(count):
    return jnp.where(count < 5, 0.1, 0.01)


@pytest.mark.parametrize("other", ["optax", "timm"])
def test_pytorch_s_learning_rate_is_outside_the_momentum_and_the_others_inside(other):
    make = {
        "optax": lambda lr: dialects.optax_rmsprop(lr, 0.99, 1e-8, eps_in_sqrt=False, momentum=0.9),
        "timm": lambda lr: dialects.timm_rmsprop_tf(lr, 0.99, 1e-8, momentum=0.9),
    }[other]
    outside = {"optax": dialects.torch_rmsprop, "timm": dialects.sb3_rmsprop_tf_like}[other]
    pairs = [(path(outside(lr, momentum=0.9), GRADS), path(make(lr), GRADS)) for lr in (0.1, stepped)]
    assert np.max(np.abs(pairs[0][0] - pairs[0][1])) <= 2e-6
    assert np.max(np.abs(pairs[1][0] - pairs[1][1])) > 0.01
    assert np.max(np.abs(pairs[1][0][:5] - pairs[1][1][:5])) <= 2e-6  # until the step


def test_tensorflow_1_starts_at_ones_and_keras_at_zeros():
    first = {f: 1 - path(f(0.1, 0.9, 0.0, 1e-10), [1e-3])[0] for f in (dialects.tf1_rmsprop, dialects.sonnet_rmsprop)}
    np.testing.assert_allclose(first[dialects.tf1_rmsprop], 0.1 * 1e-3 / np.sqrt(0.9), rtol=1e-3)
    np.testing.assert_allclose(first[dialects.sonnet_rmsprop], 0.1 / np.sqrt(0.1), rtol=1e-3)
    assert path(dialects.keras_rmsprop(0.1, epsilon=1e-10), [1e-3])[0] == path(dialects.sonnet_rmsprop(0.1), [1e-3])[0]


def test_the_eps_of_tf_keras_legacy_is_inside_the_root_with_momentum():
    g, eps = 1e-4, 1e-4
    root = np.sqrt(0.1) * g
    steps = [1 - path(dialects.tf_keras_legacy_rmsprop(0.1, momentum=m, epsilon=eps), [g])[0] for m in (0.0, 1e-30)]
    np.testing.assert_allclose(steps, [0.1 * g / (root + eps), 0.1 * g / np.sqrt(root**2 + eps)], rtol=1e-3)
    new = [1 - path(dialects.keras_rmsprop(0.1, momentum=m, epsilon=eps), [g])[0] for m in (0.0, 1e-30)]
    assert new[0] == new[1] == steps[1]


def test_keras_decays_the_parameter_and_pytorch_the_gradient():
    keras = path(dialects.keras_rmsprop(0.1, weight_decay=0.5), [0.0])
    torch = path(dialects.torch_rmsprop(0.1, weight_decay=0.5), [0.0])
    np.testing.assert_allclose(keras, [1 - 0.1 * 0.5], rtol=1e-6)
    np.testing.assert_allclose(torch, [1 - 0.1 * 0.5 / np.sqrt(0.01 * 0.5**2)], atol=1e-6)


def test_maximize_climbs_and_still_decays():
    assert path(dialects.torch_rmsprop(0.1, maximize=True), [1.0])[0] > 1
    assert path(dialects.torch_rmsprop(0.01, maximize=True, weight_decay=0.5), [0.0])[0] < 1


def test_pytorch_gives_each_part_of_a_complex_number_a_mean_square_and_optax_one_to_both():
    g = 3.0 + 0.001j
    torch = path(dialects.torch_rmsprop(0.1, 0.75, 0.0), [g], 0j)[0]
    one = path(dialects.optax_rmsprop(0.1, 0.75, 0.0), [g], 0j)[0]
    np.testing.assert_allclose(torch, -0.2 - 0.2j, rtol=1e-6)
    np.testing.assert_allclose(one, -0.2 * g / abs(g), rtol=1e-6)


# What is left of a framework's own ways.


def test_hinton_s_lecture_is_the_rule_without_eps_at_any_scale():
    theirs, _ = reference.trajectory({"decay": 0.9, "eps": 0.0}, {"w": 1.0}, [{"w": g} for g in GRADS], [0.1] * 10)
    for scale in (1.0, 1e-12):
        ours = path(dialects.hinton_rmsprop(0.1), scale * GRADS)
        np.testing.assert_allclose(ours, [step["w"] for step in theirs], atol=2e-6)


def test_a_python_0_keeps_no_buffer_and_a_traced_0_keeps_one_with_the_same_path():
    tx = optax.inject_hyperparams(dialects.torch_rmsprop)(lr=0.1)
    plain = dialects.torch_rmsprop(lr=0.1)
    assert optax.tree.get(plain.init(jnp.zeros(2)), "trace") is None
    state = tx.init(jnp.ones(2))
    assert optax.tree.get(state, "trace").shape == (2,)
    updates, _ = tx.update(jnp.ones(2), state, jnp.ones(2))
    assert jnp.allclose(updates, plain.update(jnp.ones(2), plain.init(jnp.ones(2)))[0], rtol=1e-6)
    for always in (dialects.tf1_rmsprop, dialects.sonnet_rmsprop, dialects.paddle_rmsprop, dialects.mindspore_rmsprop):
        assert optax.tree.get(always(learning_rate=0.1).init(jnp.zeros(2)), "trace") is not None


def test_the_learning_rate_decay_of_tf_keras_legacy_counts_from_0():
    decayed = path(dialects.tf_keras_legacy_rmsprop(0.1, decay=0.5), GRADS)
    by_hand = path(dialects.tf_keras_legacy_rmsprop(lambda count: 0.1 / (1 + 0.5 * count)), GRADS)
    assert np.array_equal(decayed, by_hand)
    twice = path(dialects.tf_keras_legacy_rmsprop(stepped, decay=0.5), GRADS)
    assert np.array_equal(twice, path(dialects.tf_keras_legacy_rmsprop(lambda t: stepped(t) / (1 + 0.5 * t)), GRADS))


def test_clipvalue_comes_before_the_norm_in_tf_keras_legacy():
    make = lambda **limits: dialects.tf_keras_legacy_rmsprop(0.1, epsilon=1.0, **limits)  # noqa: E731
    both = path(make(clipvalue=1.0, clipnorm=1.0), [[3.0, 0.5]], [0.0, 0.0])
    assert np.array_equal(both, path(make(), [np.array([1.0, 0.5]) / np.hypot(1.0, 0.5)], [0.0, 0.0]))


@pytest.mark.parametrize("name", ["clipnorm", "global_clipnorm"])
def test_clipping_a_norm_is_exact_in_float16_and_differentiable_at_0(name):
    tx = dialects.keras_rmsprop(0.1, epsilon=1.0, **{name: 1.0})
    zeros = {"w": jnp.zeros(2), "b": jnp.zeros(0)}
    updates, _ = tx.update({"w": jnp.array([300.0, 400.0], jnp.float16), "b": zeros["b"]}, tx.init(zeros))
    assert updates["w"].dtype == jnp.float16
    expected = -0.1 * np.array([0.6, 0.8]) / np.sqrt(0.1 * np.array([0.6, 0.8]) ** 2 + 1)
    np.testing.assert_allclose(updates["w"], expected, rtol=1e-3)
    slope = jax.grad(lambda g: jnp.sum(tx.update({"w": g, "b": zeros["b"]}, tx.init(zeros))[0]["w"]))(jnp.zeros(2))
    np.testing.assert_allclose(slope, -0.1)
    assert tx.update({"w": None, "b": None}, tx.init({"w": jnp.ones(2), "b": None}))[0]["w"].tolist() == [0.0, 0.0]


def test_clipnorm_is_of_each_leaf_and_global_clipnorm_of_all():
    grads = {"w": jnp.array([3.0, 4.0]), "b": jnp.array([0.0, 12.0])}
    clipped = {name: {} for name in ("clipnorm", "global_clipnorm")}
    for name in clipped:
        tx = dialects.keras_rmsprop(1.0, rho=0.0, epsilon=1e6, **{name: 1.0})  # divides by 1000
        updates, _ = tx.update(grads, tx.init(grads))
        clipped[name] = {leaf: np.linalg.norm(u) * 1000 for leaf, u in updates.items()}
    np.testing.assert_allclose([*clipped["clipnorm"].values()], [1, 1], rtol=1e-5)
    np.testing.assert_allclose([*clipped["global_clipnorm"].values()], [12 / 13, 5 / 13], rtol=1e-5)


def test_mindspore_decays_by_name_and_not_by_loss_scale():
    params = {"norm": {"gamma": jnp.ones(1), "beta": jnp.ones(1)}, "w": jnp.ones(1)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    tx, unscaled = (dialects.mindspore_rmsprop(0.1, weight_decay=0.5, loss_scale=scale) for scale in (1024.0, 1.0))
    updates, _ = tx.update(zeros, tx.init(params), params)
    assert updates["norm"]["gamma"] == updates["norm"]["beta"] == 0
    np.testing.assert_allclose(updates["w"], -0.1 * 0.5 / np.sqrt(0.9 + 0.1 * 0.25), rtol=1e-6)
    scaled, _ = tx.update(jax.tree.map(lambda p: 1024 * p, params), tx.init(params), params)
    chex.assert_trees_all_close(scaled, unscaled.update(params, unscaled.init(params), params)[0], rtol=1e-6)


def test_complex_leaves_of_pytorch_keep_arrays_of_their_shape_through_none_nnx_and_jit():
    params = {"z": jnp.array([1 + 1j, 2.0], jnp.complex64), "w": jnp.ones(3)}
    tx = dialects.torch_rmsprop(0.1, momentum=0.9, centered=True)
    state = tx.init(params)
    assert jax.tree.structure(optax.tree.get(state, "variance")) == jax.tree.structure(params)
    _, state = tx.update(params, state, params)
    for name in ("variance", "mu", "trace"):
        chex.assert_trees_all_equal_shapes_and_dtypes(optax.tree.get(state, name), params)
    updates, after = jax.jit(tx.update)({"z": None, "w": jnp.ones(3)}, state)
    assert updates["z"].dtype == jnp.complex64
    assert jnp.array_equal(updates["z"], jnp.zeros(2))
    assert jnp.array_equal(optax.tree.get(after, "variance")["z"], optax.tree.get(state, "variance")["z"])

    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self):
            self.z, self.w = nnx.Param(params["z"]), nnx.Param(params["w"])

    model = Model()
    optimizer, by_hand, state = nnx.Optimizer(model, tx, wrt=nnx.Param), params, tx.init(params)
    for _ in range(3):
        optimizer.update(model, nnx.state(model, nnx.Param))
        updates, state = tx.update(by_hand, state, by_hand)
        by_hand = optax.apply_updates(by_hand, updates)
    assert jnp.allclose(model.z[...], by_hand["z"], rtol=1e-6)


@pytest.mark.parametrize("row", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_dialect_compares_prints_and_pickles_and_has_the_state_of_rmsprop(row):
    make = getattr(dialects, row.function)
    rate = {row.arguments["learning_rate"]: 0.125}
    tx = make(**rate)
    assert tx == make(**rate) != make(**{row.arguments["learning_rate"]: 0.25})
    assert repr(tx).startswith(f"{row.function}(")
    assert "0.125" in repr(tx)
    assert pickle.loads(pickle.dumps(tx)) == tx
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    params = {"w": jnp.ones((2, 3), jnp.bfloat16), "none": None}
    state = tx.init(params)
    rule = moments.entries(state)[0][1]
    assert type(rule).__name__ in ("ScaleByRmsState", "ScaleByRmsWithCountState", "ScaleByStddevState")
    updates, new = jax.jit(tx.update)({"w": jnp.ones((2, 3), jnp.bfloat16), "none": None}, state, params)
    assert updates["w"].dtype == jnp.bfloat16
    chex.assert_trees_all_equal_shapes_and_dtypes(state, new)


TORCH, TF1, KERAS = dialects.torch_rmsprop, dialects.tf1_rmsprop, dialects.keras_rmsprop
DREAMER, LEVANTER = dialects.dreamer_v3_rmsprop, dialects.levanter_rmsprop
LEGACY, TIMM, MINDSPORE = dialects.tf_keras_legacy_rmsprop, dialects.timm_rmsprop_tf, dialects.mindspore_rmsprop


def step(tx, grads, params=1.0):
    return tx.update(grads, tx.init(params), params)


REFUSALS = {
    "a decay of 1.5, by its own name": (lambda: TORCH(alpha=1.5), ValueError, r"`alpha` must be .*\[0, 1\).*1.5"),
    "a momentum of 1": (lambda: TF1(0.1, momentum=1.0), ValueError, "`momentum` must be"),
    "a negative eps": (lambda: KERAS(epsilon=-1e-7), ValueError, "`epsilon` must be"),
    "a negative weight decay": (lambda: dialects.chainer_rmsprop(weight_decay=-1.0), ValueError, "`weight_decay`"),
    "a learning rate that is not a number": (lambda: TORCH(lr="0.1"), TypeError, "`lr` must be"),
    "no learning rate": (lambda: TORCH(lr=None), TypeError, "`lr` must be"),
    "a schedule's text": (lambda: step(TORCH(lr=lambda t: "0.1"), 1.0), TypeError, "`lr` must be"),
    "no momentum where there always is one": (lambda: TF1(0.1, momentum=None), TypeError, "`momentum` must be"),
    "a switch that is not a bool": (lambda: TORCH(centered=1), TypeError, "`centered` must be True or False"),
    "maximize by position": (
        lambda: TORCH(0.1, 0.9, 1e-8, 0, 0, False, True),
        TypeError,
        "6 by position, got 7.*maximize",
    ),
    "an argument left out": (lambda: TIMM(caution=True), TypeError, "caution.*Its arguments are"),
    "an eps that Keras replaces": (lambda: LEGACY(epsilon=0), ValueError, "`epsilon` must be above 0.*1e-7"),
    "a limit that Keras ignores": (lambda: KERAS(clipnorm=0.0), ValueError, "`clipnorm` must be above 0"),
    "two limits": (lambda: KERAS(clipnorm=1.0, clipvalue=1.0), ValueError, "At most one .* clipnorm and clipvalue"),
    "two norms": (lambda: LEGACY(clipnorm=1.0, global_clipnorm=1.0), ValueError, "At most one of"),
    "what optax ignores": (lambda: dialects.optax_rmsprop(0.1, nesterov=True), ValueError, "`nesterov` needs"),
    "a loss scale of 0": (lambda: MINDSPORE(loss_scale=0.0), ValueError, "`loss_scale` must be above"),
    "a number for a clip": (lambda: dialects.paddle_rmsprop(0.1, grad_clip=1.0), TypeError, "`grad_clip` must be"),
    "complex parameters": (lambda: TF1(0.1).init({"z": jnp.ones(1, complex)}), TypeError, "at z is complex.*tf.compat"),
    "complex gradients": (lambda: step(TF1(0.1), 1j), TypeError, "`updates` at its root is complex"),
    "one of a real parameter": (lambda: step(TORCH(), jnp.array(1j)), TypeError, "imaginary part"),
    "another shape": (lambda: step(TORCH(), jnp.ones(3), jnp.ones(2)), ValueError, "shape"),
    "an integer gradient, clipped": (lambda: step(KERAS(clipnorm=1.0), jnp.array(1)), TypeError, "int32"),
    "no parameters to clip by": (
        lambda: dialects.dreamer_v3_rmsprop().update(1.0, dialects.dreamer_v3_rmsprop().init(1.0)),
        ValueError,
        "`params` must be passed to update.*clipping",
    ),
    "a gradient that its parameter does not fit": (
        lambda: step(dialects.dreamer_v3_rmsprop(), jnp.ones(3), jnp.ones(2)),
        ValueError,
        r"`updates` at .* has shape \(3,\)",
    ),
    "a fall without its end": (
        lambda: DREAMER(schedule="linear"),
        ValueError,
        "`anneal` must be the last step.*neither",
    ),
    "an end without a fall": (lambda: DREAMER(anneal=9), ValueError, "`anneal` must be the last step.*'const'"),
    "a fall within the warm-up": (lambda: DREAMER(schedule="cosine", anneal=9), ValueError, "above `warmup`, 1000"),
    "two schedules": (
        lambda: DREAMER(lambda t: 0.1, schedule="cosine", warmup=0, anneal=9),
        ValueError,
        "`lr` is a schedule and `schedule` names another",
    ),
    "another fall": (
        lambda: DREAMER(schedule="exponential"),
        ValueError,
        "`schedule` must be one of 'const', 'linear'",
    ),
    "half a step": (lambda: DREAMER(warmup=0.5), ValueError, "`warmup` must be a whole number of steps, got 0.5"),
    "a traced warm-up": (lambda: DREAMER(warmup=jnp.array(9)), TypeError, "`warmup` must be a Python number of steps"),
    "a number of a parameter for its name": (lambda: DREAMER(wd=0.1, wdregex="0"), ValueError, "start with a digit"),
    "no expression": (lambda: DREAMER(wd=0.1, wdregex="("), ValueError, r"`wdregex` must be a regular .*'\('"),
    "a share below 0": (lambda: DREAMER(agc=-0.3), ValueError, "`agc` must be"),
    "what DreamerV3 does not read": (lambda: DREAMER(momentum=False), TypeError, "momentum.*Its arguments are lr, agc"),
    "a list of numbers": (
        lambda: LEVANTER(weight_decay_modules=["w", 1]),
        TypeError,
        "`weight_decay_modules` must be a list of words",
    ),
    "an expression that is none": (
        lambda: LEVANTER(weight_decay_modules="["),
        ValueError,
        r"`weight_decay_modules` must be a regular expression, got '\['",
    ),
    "a default beside a mask": (
        lambda: LEVANTER(weight_decay_modules={"w": True}, default_weight_decay_mask=True),
        ValueError,
        "`default_weight_decay_mask` is for paths",
    ),
    "a norm of 0": (lambda: LEVANTER(max_grad_norm=0.0), ValueError, "`max_grad_norm` must be above 0"),
    "no parameters for the decay": (
        lambda: TORCH(weight_decay=0.1).update(1.0, TORCH(weight_decay=0.1).init(1.0)),
        ValueError,
        "`params` must be passed",
    ),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_a_dialect_refuses(why):
    call, error, message = REFUSALS[why]
    with pytest.raises(error, match=message):
        call()
