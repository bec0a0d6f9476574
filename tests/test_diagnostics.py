"""`diagnostics`: the effective rate times the gradient is the update, in any state, and the numbers equal NumPy's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rmsprop_optax import diagnostics, moments, rmsprop

PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 4.0]]), "b": jnp.array([1.0, 1.0, -3.0])}
VARIANTS = [
    {},
    {"eps": 0.1},
    {"eps": 0.1, "eps_in_sqrt": False},
    {"eps": 0.0},
    {"decay": 0.99, "bias_correction": True},
    {"decay": 0.99999, "bias_correction": True},
    {"decay": 0.0, "bias_correction": True},
    {"centered": True, "eps": 1e-3},
    {"initial_scale": 1.0},
]


def gradients(steps, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return [
        jax.tree.map(lambda p: jnp.asarray(scale * rng.normal(size=p.shape), p.dtype), PARAMS) for _ in range(steps)
    ]


def run(tx, grads, params=PARAMS):
    state, update = tx.init(params), jax.jit(tx.update)
    for g in grads:
        updates, state = update(g, state, params)
    return updates, state


def numbers(options):
    """Return those of an optimizer's arguments that `diagnostics` takes."""
    found = {key: value for key, value in options.items() if key in ("eps", "eps_in_sqrt")}
    return found | ({"decay": options["decay"]} if "bias_correction" in options else {})


def assert_is_what_the_gradient_was_multiplied_by(tree, gradient, updates, rtol=3e-6):
    for name in PARAMS:
        np.testing.assert_allclose(-tree[name] * gradient[name], updates[name], rtol=rtol, err_msg=name)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_the_effective_rate_times_the_gradient_is_the_update(options, steps):
    grads = gradients(steps)
    grads[-1]["b"] = grads[-1]["b"].at[0].set(0.0)  # its root may be 0, too
    updates, state = run(rmsprop(0.3, **options), grads)
    (tree,) = diagnostics.effective_learning_rate(state, 0.3, **numbers(options)).values()
    assert_is_what_the_gradient_was_multiplied_by(tree, grads[-1], updates)


@pytest.mark.parametrize("options", [o for o in VARIANTS if o.get("eps") != 0.0], ids=str)
def test_the_effective_rate_times_the_gradient_is_the_update_of_optax_s_rmsprop(options):
    grads = gradients(4)
    updates, state = run(optax.rmsprop(0.3, **options), grads)
    (tree,) = diagnostics.effective_learning_rate(state, 0.3, **numbers(options)).values()
    # optax multiplies by a reciprocal root, forms 1 - decay**t directly and subtracts two moments
    assert_is_what_the_gradient_was_multiplied_by(tree, grads[-1], updates, rtol=2e-3 if options.get("decay") else 2e-5)


def test_the_effective_rate_times_the_mean_is_the_update_of_adam():
    grads = gradients(3)
    updates, state = run(optax.adam(0.3, b1=0.0, b2=0.9), grads)
    (tree,) = diagnostics.effective_learning_rate(state, 0.3, eps_in_sqrt=False, decay=0.9).values()
    assert_is_what_the_gradient_was_multiplied_by(tree, grads[-1], updates, rtol=1e-5)


LABELS = {"w": "slow", "b": "fast"}
WRAPPED = {
    "a chain": optax.chain(optax.clip(10.0), rmsprop(0.3)),
    "inject_hyperparams": optax.inject_hyperparams(rmsprop)(0.3),
    "MultiSteps": optax.MultiSteps(rmsprop(0.3), 1),
    "apply_if_finite": optax.apply_if_finite(rmsprop(0.3), 3),
    "momentum and a schedule": rmsprop(lambda count: 0.3 + 0 * count, momentum=0.0),
    "partition": optax.partition({"slow": rmsprop(0.3), "fast": rmsprop(0.3, decay=0.5)}, LABELS),
    "masked, twice": optax.chain(
        optax.masked(rmsprop(0.3), {"w": True, "b": False}), optax.masked(rmsprop(0.3), {"w": False, "b": True})
    ),
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_every_nu_is_found_anywhere_in_a_state(wrapper):
    grads = gradients(3)
    updates, state = run(WRAPPED[wrapper], grads)
    found = diagnostics.effective_learning_rate(state, 0.3)
    merged = {}
    for tree in found.values():
        leaves = {name: leaf for name, leaf in tree.items() if not isinstance(leaf, optax.MaskedNode)}
        assert not set(merged) & set(leaves)
        merged |= leaves
    assert_is_what_the_gradient_was_multiplied_by(merged, grads[-1], updates)
    assert len(found) == (2 if wrapper in ("partition", "masked, twice") else 1)
    step = diagnostics.measure(grads[-1], updates, state, PARAMS, 0.3, quantiles=[0.0, 1.0])
    ends = jnp.stack([jnp.concatenate([x.ravel() for x in merged.values()]).min(), merged["b"].max()])
    np.testing.assert_allclose(step["all"]["effective_learning_rate"][0], ends[0], rtol=1e-6)
    np.testing.assert_allclose(step["leaves"]["b"]["effective_learning_rate"][1], ends[1], rtol=1e-6)


def test_a_parameter_named_nu_is_not_taken_for_a_state():
    params = {"nu": jnp.ones(2), "count": jnp.ones(3)}
    _, state = run(rmsprop(0.1, momentum=0.9), [params], params)
    found = diagnostics.effective_learning_rate(state, 0.1)
    assert list(found) == ["0/ScaleByRmsState.nu"]
    assert found["0/ScaleByRmsState.nu"]["nu"].shape == (2,)


def test_leaves_of_an_optimizer_without_nu_have_the_numbers_that_need_none():
    tx = optax.partition({"slow": rmsprop(0.3), "fast": optax.sgd(0.3)}, LABELS)
    grads = gradients(1)
    updates, state = run(tx, grads)
    leaves = diagnostics.measure(grads[0], updates, state, PARAMS, 0.3)["leaves"]
    assert "effective_learning_rate" in leaves["w"]
    assert set(leaves["b"]) == {"gradient_rms", "update_rms", "update_to_weight"}


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_the_numbers_of_a_step_equal_numpy_s(options):
    grads = gradients(5)
    updates, state = run(rmsprop(0.3, **options), grads)
    measure = jax.jit(functools.partial(diagnostics.measure, quantiles=(0.1, 0.9), **numbers(options)))
    step = measure(grads[-1], updates, state, PARAMS, 0.3)
    nu, t = (
        jax.tree.map(lambda x: np.asarray(x, np.float64), moments.of(state[0])[moments.second(state[0])]),
        len(grads),
    )
    if options.get("bias_correction"):
        nu = {name: x / (1 - options["decay"] ** t) for name, x in nu.items()}
    eps, inside = options.get("eps", 1e-8), options.get("eps_in_sqrt", True)
    everything = [*PARAMS, slice(None)]
    for part in everything:
        names = list(PARAMS) if isinstance(part, slice) else [part]
        g, u, p, v = (
            np.concatenate([np.ravel(tree[name]) for name in names]) for tree in (grads[-1], updates, PARAMS, nu)
        )
        rms = lambda x: np.sqrt(np.mean(np.square(x, dtype=np.float64)))  # noqa: E731
        rate = 0.3 / (np.sqrt(v + eps) if inside else np.sqrt(v) + eps)
        expected = {
            "gradient_rms": rms(g),
            "root_nu": np.sqrt(v.mean()),
            "update_rms": rms(u),
            "update_to_weight": rms(u) / rms(p),
            "effective_learning_rate": np.quantile(rate, [0.1, 0.9]),
            "eps_dominates": np.mean((v if inside else np.sqrt(v)) < eps),
        }
        found = step["all"] if isinstance(part, slice) else step["leaves"][part]
        assert set(found) == set(expected)
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-5, err_msg=f"{part} {key}")


def test_quantiles_may_be_traced():
    grads = gradients(1)[0]
    updates, state = run(rmsprop(0.3), [grads])
    measure = lambda q: diagnostics.measure(grads, updates, state, PARAMS, 0.3, quantiles=q)["all"]  # noqa: E731
    traced = jax.jit(measure)(jnp.array([0.1, 0.9]))["effective_learning_rate"]
    np.testing.assert_allclose(traced, measure([0.1, 0.9])["effective_learning_rate"], rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_squares_neither_overflow_nor_vanish(dtype, scale):
    scale = float(jnp.clip(scale, jnp.finfo(dtype).tiny, jnp.finfo(dtype).max / 4))
    grads = jax.tree.map(lambda g: jnp.clip(g, -2, 2).astype(dtype) * jnp.asarray(scale, dtype), gradients(1)[0])
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    updates, state = run(rmsprop(0.3), [grads], params)
    step = diagnostics.measure(grads, updates, state, params, 0.3)
    expected = np.sqrt(np.mean(np.concatenate([np.asarray(g, np.float64).ravel() for g in grads.values()]) ** 2))
    np.testing.assert_allclose(step["all"]["gradient_rms"], expected, rtol=1e-6)
    assert jax.tree.all(jax.tree.map(lambda x: bool(jnp.isfinite(x).all()), step))


def test_where_the_gradient_is_zero_eps_dominates():
    grads = {"w": jnp.zeros((2, 2)).at[0].set(1.0), "b": jnp.zeros(3)}
    updates, state = run(rmsprop(0.3), [grads])
    step = diagnostics.measure(grads, updates, state, PARAMS, 0.3)
    assert step["leaves"]["b"]["eps_dominates"] == 1
    assert step["leaves"]["w"]["eps_dominates"] == 0.5
    np.testing.assert_allclose(step["all"]["eps_dominates"], 5 / 7, rtol=1e-6)


def test_leaves_that_are_none_or_empty_are_left_out():
    params = PARAMS | {"empty": jnp.zeros((0, 3)), "b": None}
    grads = jax.tree.map(jnp.ones_like, params)
    updates, state = run(rmsprop(0.3), [grads], params)
    step = diagnostics.measure(grads | {"w": None}, updates, state, params, 0.3)
    assert list(step["leaves"]) == ["w"]
    assert step["all"]["gradient_rms"] == 0
    assert step["all"]["update_rms"] > 0


def test_complex_parameters_are_measured_by_magnitude():
    params, grads = jnp.array([3 + 4j, 0]), jnp.array([1j, 1])
    updates, state = run(rmsprop(0.3), [grads], params)
    step = diagnostics.measure(grads, updates, state, params, 0.3)["all"]
    np.testing.assert_allclose([step["gradient_rms"], step["root_nu"]], [1, np.sqrt(0.1)], rtol=1e-6)


def test_a_state_fresh_from_init_measures_without_nan():
    tx = rmsprop(0.3, bias_correction=True)
    (tree,) = diagnostics.effective_learning_rate(tx.init(PARAMS), 0.3, decay=0.9).values()
    assert jnp.isfinite(tree["w"]).all()


TURNS = [
    ([1.0, 1.0], [-1.0, -1.0], 1.0, 1.0),
    ([1.0, -2.0], [1.0, -1.0], 0.0, 0.0),
    ([4.0, 4.0], [-1.0, 1.0], 0.5, 0.125),
    ([1.0, 3.0], [-9.0, 0.0], 0.5, 0.25),
    ([0.0, 0.0], [1.0, -1.0], 0.0, 0.0),
]


@pytest.mark.parametrize(("before", "after", "often", "far"), TURNS)
def test_oscillation_measures_reversals_and_how_much_they_undo(before, after, often, far):
    found = jax.jit(diagnostics.oscillation)({"x": jnp.array(before)}, {"x": jnp.array(after)})
    for numbers in (found["all"], found["leaves"]["x"]):
        assert (numbers["reversed"], numbers["undone"]) == (often, far)


@pytest.mark.full
def test_plain_descent_oscillates_where_rate_times_curvature_exceeds_one():
    curvature = jnp.array([1.0, 10.0, 19.0])
    theta = [(1 - 0.1 * curvature) ** t for t in range(8)]
    updates = jnp.diff(jnp.stack(theta), axis=0)
    found = jax.vmap(diagnostics.oscillation)(updates[:-1, 1:], updates[1:, 1:])["all"]
    np.testing.assert_allclose(found["reversed"], 0.5)  # the steeper element overshoots, the other arrives in one step
    every = jax.vmap(diagnostics.oscillation)(updates[:-1, 2:], updates[1:, 2:])["all"]
    np.testing.assert_allclose(every["undone"], 0.9, rtol=1e-6)  # the next update undoes all but a tenth of each


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
def test_the_first_step_is_one_over_the_root_of_one_minus_decay(decay):
    response = diagnostics.step_response(rmsprop(1.0, decay=decay, eps=0.0), 3.0 * jnp.ones((300, 2)))
    assert response.shape == (300, 2)
    np.testing.assert_allclose(-response[0], (1 - decay) ** -0.5, rtol=1e-6)
    t = np.arange(1, 301)[:, None]
    np.testing.assert_allclose(-response, np.broadcast_to((1 - decay**t) ** -0.5, (300, 2)), rtol=2e-5)


_, STATE = run(rmsprop(0.3), gradients(1))


def coded(dtype):
    return (STATE[0]._replace(nu=jax.tree.map(lambda x: x.astype(dtype), STATE[0].nu)), *STATE[1:])


def effective(state=STATE, rate=0.3, **options):
    return diagnostics.effective_learning_rate(state, rate, **options)


def measured(grads=PARAMS, updates=PARAMS, state=STATE, params=PARAMS, **options):
    return diagnostics.measure(grads, updates, state, params, 0.3, **options)


def response(gradients, tx=rmsprop(1.0)):  # noqa: B008 - a value
    return diagnostics.step_response(tx, gradients)


def of(tree):
    return measured(tree, tree, params=tree)


OTHERS, WIDER = {"a": jnp.ones(2)}, PARAMS | {"b": jnp.ones(4)}
COUNTED = rmsprop(0.3, bias_correction=True).init(PARAMS)
BAD = {
    "codes": (lambda: effective(coded(jnp.uint8)), TypeError, r"nu` at b .* got uint8.*`compression.decompress`"),
    "codes, measured": (lambda: measured(state=coded(jnp.uint8)), TypeError, "`compression.decompress`"),
    "half precision": (lambda: effective(coded(jnp.bfloat16)), TypeError, "`compression.decompress`"),
    "no nu": (lambda: effective(optax.sgd(0.1).init(PARAMS)), ValueError, "a field named `nu`"),
    "a counting state": (lambda: effective(COUNTED), ValueError, "`decay` is needed"),
    "a schedule": (lambda: effective(rate=lambda count: 0.1), TypeError, "pass its value at this step"),
    "a negative eps": (lambda: effective(eps=-1.0), ValueError, "`eps` must be a number"),
    "a number for a switch": (lambda: effective(eps_in_sqrt=1), TypeError, "`eps_in_sqrt` must be True or False"),
    "decay of one": (lambda: effective(COUNTED, decay=1.0), ValueError, r"`decay` must be a number in \[0, 1\)"),
    "missing gradients": (lambda: measured({"w": PARAMS["w"]}), ValueError, "`gradients`.*missing: b"),
    "updates of another shape": (lambda: measured(updates=PARAMS | {"b": jnp.ones(4)}), ValueError, "`updates` at b"),
    "integer parameters": (lambda: measured(params={"w": jnp.arange(3)}), TypeError, "`params` at w"),
    "other parameters": (lambda: of(OTHERS), ValueError, "no leaf at the same path in `params`"),
    "nu of another shape": (lambda: of(WIDER), ValueError, r"`state/0/ScaleByRmsState.nu` at b has shape \(3,\)"),
    "two nu": (lambda: measured(state=(STATE, STATE)), ValueError, "one of two second moments"),
    "nothing to measure": (lambda: measured({}, {}, params={}), ValueError, "`params` must have at least one element"),
    "turns of two trees": (lambda: diagnostics.oscillation(PARAMS, {}), ValueError, "`updates` must have"),
    "turns of integers": (lambda: diagnostics.oscillation(jnp.arange(3), jnp.arange(3)), TypeError, "`previous` at"),
    "turns of nothing": (lambda: diagnostics.oscillation({}, {}), ValueError, "`previous` must have at least one"),
    "complex turns": (lambda: diagnostics.oscillation(*[jnp.ones(2, complex)] * 2), TypeError, "`previous`.*real"),
    "a word for quantiles": (lambda: measured(quantiles="median"), TypeError, r"`quantiles`.*\[0, 1\].*got 'median'"),
    "words for quantiles": (lambda: measured(quantiles=["0.5"]), TypeError, "`quantiles` must be a sequence"),
    "a quantile of two": (lambda: measured(quantiles=[0.5, 2]), ValueError, r"`quantiles`.*\[0, 1\].*got \[0.5, 2\]"),
    "a negative quantile": (lambda: measured(quantiles=(-1,)), ValueError, r"`quantiles`.*got \(-1,\)"),
    "a quantile of nan": (lambda: measured(quantiles=(np.nan,)), ValueError, r"`quantiles`.*got \(nan,\)"),
    "a single quantile": (lambda: measured(quantiles=0.5), ValueError, r"`quantiles`.*sequence.*got shape \(\)"),
    "no quantiles": (lambda: measured(quantiles=()), ValueError, r"`quantiles`.*got shape \(0,\)"),
    "None for quantiles": (lambda: measured(quantiles=None), TypeError, "`quantiles`.*got None"),
    "an optimizer for a state": (lambda: effective(rmsprop(0.3)), TypeError, "Pass what `init` or the last `update`"),
    "a scalar of gradients": (lambda: response(1.0), ValueError, "got a scalar. Repeat it"),
    "integer gradients": (lambda: response([1, 2]), TypeError, "`gradients`"),
    "no gradients": (lambda: response([]), ValueError, r"`gradients`.*at least one step, got shape \(0,\)"),
    "None for gradients": (lambda: response(None), ValueError, "`gradients`.*at least one step, got None"),
    "a tree of gradients": (lambda: response({"w": jnp.ones(3)}), TypeError, "`gradients` must be.*got a dict"),
    "ragged gradients": (lambda: response([[1.0], [1.0, 2.0]]), TypeError, "`gradients` must be an array of shape"),
    "a factory for an optimizer": (lambda: response([1.0], rmsprop), TypeError, "`tx`.*Call it: pass what it returns"),
    "a rate for an optimizer": (lambda: response([1.0], 0.1), TypeError, "`tx` must be an optax.*got 0.1"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_refused_by_name(bad):
    call, kind, message = BAD[bad]
    with pytest.raises(kind, match=message):
        call()
