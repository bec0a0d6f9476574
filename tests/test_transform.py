"""The rule: exact where arithmetic allows, finite everywhere, and steady in its types."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit import reference, training
from kit.rows import rows

from rmsprop_optax import ScaleByRmsState, ScaleByRmsWithCountState, ScaleByStddevState, moments, scale_by_rms

VARIANTS = {
    "plain": {},
    "outside": {"eps_in_sqrt": False},
    "initial": {"initial_scale": 1.0},
    "corrected": {"bias_correction": True},
    "corrected outside": {"bias_correction": True, "eps_in_sqrt": False},
    "centered": {"centered": True},
    "centered outside": {"centered": True, "eps_in_sqrt": False},
}


def run(tx, grads):
    """Return the updates of a series of gradients (first axis), and the last state, as NumPy arrays."""
    return jax.tree.map(np.asarray, training.updates(tx, grads))


def second(state):
    """The mean square, or the variance when centered."""
    return moments.of(state)[moments.second(state)]


def extended(grads, decay, eps=1e-8):
    """The plain rule in extended precision."""
    long, nu, out = np.longdouble, np.zeros(grads.shape[1:], np.longdouble), []
    for g in grads.astype(long):
        nu = long(decay) * nu + (1 - long(decay)) * g * g
        out.append(g / np.sqrt(nu + long(eps)))
    return np.array(out)


def relative(ours, theirs):
    theirs = np.asarray(theirs, np.longdouble)
    return np.abs(np.asarray(ours, np.longdouble) - theirs) / np.abs(theirs)


def test_one_step_is_the_note_s_equation():
    tx = scale_by_rms(decay=0.75, eps=7.0)
    updates, state = tx.update(jnp.array(6.0), tx.init(jnp.array(0.0)))
    assert state.nu == 0.25 * 36.0
    assert updates == 6.0 / np.sqrt(9.0 + 7.0)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_float64_follows_the_reference_to_its_last_digits(options, decay):
    grads = np.random.default_rng(0).normal(size=(50, 7)) * np.logspace(-3, 3, 7)
    switches = {
        "decay": decay,
        "eps": 1e-3,
        "acc_init": options.get("initial_scale", 0.0),
        "eps_mode": "inside" if options.get("eps_in_sqrt", True) else "outside",
        "bias_correction": options.get("bias_correction", False),
        "centered": options.get("centered", False),
    }
    expected, moments = reference.trajectory(switches, {"w": np.zeros(7)}, [{"w": -g} for g in grads], np.ones(50))
    with jax.enable_x64(True):
        updates, state = run(scale_by_rms(decay, 1e-3, **options), jnp.asarray(grads))
    assert updates.dtype == np.float64
    np.testing.assert_allclose(np.cumsum(updates, 0)[-1], expected[-1]["w"], rtol=1e-11)
    nu = moments["nu"]["w"] - moments["mu"]["w"] ** 2 * switches["centered"]
    np.testing.assert_allclose(second(state), nu, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(("decay", "bound"), [(0.9, 6e-7), (0.99, 1e-6), (0.999, 2e-6), (0.9999, 3e-6)])
def test_float32_is_within_a_few_roundings_of_extended_precision(decay, bound):
    rng = np.random.default_rng(1)
    grads = (rng.choice([-1.0, 1.0], (3000, 64)) * 10 ** rng.uniform(-4, 4, (3000, 64))).astype(np.float32)
    updates, _ = run(scale_by_rms(decay), grads)
    assert relative(updates, extended(grads, decay)).max() <= bound


def test_float64_is_within_1e_14_of_extended_precision():
    grads = np.random.default_rng(2).normal(size=(500, 16))
    with jax.enable_x64(True):
        updates, _ = run(scale_by_rms(0.9), jnp.asarray(grads))
    assert relative(updates, extended(grads, 0.9)).max() < 1e-14


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
def test_bias_corrected_with_eps_outside_is_adam_without_its_first_moment(decay):
    grads = np.random.default_rng(3).normal(size=(40, 5)).astype(np.float32)
    ours, _ = run(scale_by_rms(decay, 1e-4, eps_in_sqrt=False, bias_correction=True), grads)
    adam, _ = run(optax.scale_by_adam(b1=0.0, b2=decay, eps=1e-4), grads)
    np.testing.assert_allclose(ours, adam, rtol=1e-5)


@pytest.mark.parametrize("decay", [0.9, 0.9999, 0.9999999])
def test_bias_correction_makes_the_first_step_a_sign(decay):
    updates, _ = run(scale_by_rms(decay, eps=0.0, bias_correction=True), np.full((1, 2), [3.0, -1e-3], np.float32))
    np.testing.assert_allclose(updates[0], [1.0, -1.0], rtol=1e-6)


def test_the_variance_form_is_the_difference_of_two_moments_in_float64():
    grads = np.random.default_rng(4).normal(2.0, 1.0, size=(300, 9))
    with jax.enable_x64(True):
        grads = jnp.asarray(grads)
        _, centered = run(scale_by_rms(0.99, centered=True, initial_scale=0.5), grads)
        _, plain = run(scale_by_rms(0.99, initial_scale=0.5), grads)
    np.testing.assert_allclose(centered.variance, plain.nu - centered.mu**2, rtol=1e-12)


@pytest.mark.parametrize("decay", [0.9, 0.99])
@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-4, 1e-2])
def test_centered_stays_finite_on_nearly_constant_gradients(decay, noise):
    magnitudes = np.logspace(-15, 15, 61, dtype=np.float32)
    grads = magnitudes * (1 + noise * np.random.default_rng(5).normal(size=(3000, 61))).astype(np.float32)
    updates, state = run(scale_by_rms(decay, centered=True), grads)
    assert np.isfinite(updates).all()
    assert np.isfinite(state.variance).all()
    assert (state.variance >= 0).all()


def test_centered_is_accurate_on_nearly_constant_gradients():
    grads = (1 + 1e-3 * np.random.default_rng(6).normal(size=(6000, 1))).astype(np.float32)
    updates, _ = run(scale_by_rms(0.99, centered=True), grads)
    long, nu, mu, expected = np.longdouble, np.longdouble(0), np.longdouble(0), []
    for g in grads[:, 0].astype(long):
        nu, mu = long(0.99) * nu + (1 - long(0.99)) * g * g, long(0.99) * mu + (1 - long(0.99)) * g
        expected.append(g / np.sqrt(nu - mu * mu + long(1e-8)))
    assert np.median(relative(updates[3000:, 0], expected[3000:])) < 1e-4


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("eps", rows([0.0, 1e-8], [0.0]))
@pytest.mark.parametrize(
    "dtype", rows(["float32", "bfloat16", "float16", "float64", "complex64"], ["float32", "float16"])
)
def test_finite_gradients_of_any_size_give_finite_states_and_updates(options, eps, dtype):
    with jax.enable_x64(True):
        info = jnp.finfo(dtype)
        small, large = (
            [0, float(info.smallest_subnormal), float(info.tiny), 1e-5],
            [float(info.max) / 4, float(info.max)],
        )
        sizes = np.array([*small, 1.0, *large])
        rows = [np.roll(sizes, k) * sign for k in range(7) for sign in (1, -1)] + [sizes] * 20
        grads = np.asarray(jnp.asarray(np.array(rows)).astype(dtype))
        updates, state = run(scale_by_rms(0.9, eps, **options), jnp.asarray(grads))
    assert updates.dtype == dtype
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((updates, state)))
    assert (updates[grads == 0] == 0).all()
    if "centered" not in options:
        rounding = {"bfloat16": 2**-8, "float16": 2**-11}.get(dtype, 1e-6)
        assert np.abs(updates.astype(np.complex128)).max() <= 10**0.5 * (1 + rounding)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("eps", rows([0.0, 1e-30, 1e-8], [0.0]))
@pytest.mark.parametrize("eps_in_sqrt", [True, False])
def test_uncentered_updates_stay_within_the_bound(decay, eps, eps_in_sqrt):
    rng = np.random.default_rng(7)
    grads = (rng.choice([-1.0, 1.0], (1000, 50)) * 10 ** rng.uniform(-44, 38, (1000, 50))).astype(np.float32)
    updates, _ = run(scale_by_rms(decay, eps, eps_in_sqrt=eps_in_sqrt), grads)
    assert np.abs(updates).max() * np.sqrt(1 - decay) <= 1 + 1e-5


def test_a_parameter_moves_again_after_a_gradient_whose_square_overflows():
    grads = np.concatenate([np.ones(5), [2e19], np.ones(1000)]).astype(np.float32)[:, None]
    updates, state = run(scale_by_rms(0.9), grads)
    assert np.isfinite(state.nu)
    assert np.abs(updates[-1]) > 0.5


def test_an_infinite_gradient_counts_as_a_large_one_and_a_nan_stays_in_its_element():
    grads = np.array([[np.inf, -np.inf, np.nan, 1.0]] + [[1.0] * 4] * 900, np.float32)
    updates, state = run(scale_by_rms(0.9), grads)
    assert np.isnan(updates[:, 2]).all()
    assert np.isfinite(np.delete(updates, 2, axis=1)).all()
    np.testing.assert_allclose(updates[0, :2], [10**0.5, -(10**0.5)], rtol=1e-6)
    np.testing.assert_allclose(state.nu[[0, 1, 3]], 1.0, rtol=1e-4)


@pytest.mark.full
def test_bfloat16_parameters_keep_a_float32_average_that_moves_at_decay_0_999():
    grads = jnp.concatenate([jnp.ones(20000), jnp.zeros(20000)]).astype(jnp.bfloat16)
    tx = scale_by_rms(0.999)
    _, risen = run(tx, grads[:20000])
    _, fallen = run(tx, grads)
    assert abs(risen.nu - 1) < 0.01
    assert fallen.nu < 1e-6


@pytest.mark.parametrize("variant", rows(VARIANTS, ["outside"]))
@pytest.mark.parametrize("eps", rows([0.0, 1e-3], [0.0]))
def test_derivatives_through_three_steps_are_finite_at_a_zero_gradient(variant, eps):
    def loss(x, decay, traced_eps):
        tx, state = scale_by_rms(decay, traced_eps, **VARIANTS[variant]), None
        state = tx.init(x)
        for _ in range(3):
            updates, state = tx.update(2 * x, state)
            x = x - 0.1 * updates
        return jnp.sum(x**2)

    x = jnp.array([1.0, 0.0])
    for derivative in (jax.grad(loss, (0, 1, 2)), jax.hessian(loss)):
        leaves = jax.tree.leaves(derivative(x, jnp.float32(0.9), jnp.float32(eps)))
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in leaves)
    static = jax.hessian(lambda x: loss(x, 0.9, eps))(x)
    assert bool(jnp.isfinite(static).all())


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("grad", rows(["float32", "bfloat16", "float16", "float64"], ["float32", "bfloat16"]))
@pytest.mark.parametrize("param", ["float32", "bfloat16", "float16", "float64"])
def test_the_state_keeps_its_types_and_the_update_has_the_gradient_s(options, param, grad):
    with jax.enable_x64(True):
        tx = scale_by_rms(**options)
        before = tx.init(jnp.ones(3, param))
        updates, after = tx.update(jnp.ones(3, grad), before)
    assert second(before).dtype == ("float64" if param == "float64" else "float32")
    assert jax.tree.map(jax.typeof, before) == jax.tree.map(jax.typeof, after)
    assert updates.dtype == grad


@pytest.mark.parametrize("centered", [False, True])
def test_complex_gradients_are_divided_by_one_root_for_both_parts(centered):
    rng = np.random.default_rng(8)
    grads = (rng.normal(size=(30, 4)) + 1j * rng.normal(size=(30, 4))).astype(np.complex64)
    ours, state = run(scale_by_rms(centered=centered), grads)
    theirs, _ = run(optax.scale_by_stddev() if centered else optax.scale_by_rms(), grads)
    assert second(state).dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-5 if centered else 1e-6)


def test_a_state_has_the_fields_in_use_and_they_have_the_shapes_of_the_parameters():
    params = {"w": jnp.ones((2, 3), jnp.bfloat16), "b": jnp.ones(()), "e": jnp.ones((0, 3)), "n": None}
    plain, full = scale_by_rms().init(params), scale_by_rms(centered=True).init(params)
    counted = scale_by_rms(bias_correction=True).init(params)
    assert isinstance(plain, ScaleByRmsState)
    assert plain._fields == ("nu",)
    assert isinstance(counted, ScaleByRmsWithCountState)
    assert counted._fields == ("count", "nu")
    assert isinstance(full, ScaleByStddevState)
    assert full._fields == ("variance", "mu")
    assert counted.count.shape == ()
    assert counted.count.dtype == np.int32
    for tree in (plain.nu, counted.nu, full.variance, full.mu):
        assert jax.tree.map(jnp.shape, tree) == jax.tree.map(jnp.shape, params)


def test_a_none_gradient_keeps_its_state():
    tx = scale_by_rms(centered=True)
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    _, before = tx.update({"a": jnp.ones(2), "b": jnp.ones(2)}, tx.init(params))
    updates, after = tx.update({"a": None, "b": jnp.ones(2)}, before)
    assert updates["a"] is None
    assert (after.variance["a"] == before.variance["a"]).all()
    assert (after.mu["a"] == before.mu["a"]).all()
    assert (after.variance["b"] != before.variance["b"]).all()


def test_the_state_is_found_by_name_and_is_a_named_tuple():
    state = optax.chain(optax.clip(1.0), scale_by_rms()).init(jnp.ones(3))
    assert isinstance(state[1], ScaleByRmsState)
    assert (optax.tree.get(state, "nu") == 0).all()


@pytest.mark.parametrize("made", [{"centered": True}, {"bias_correction": True}])
def test_a_state_made_with_other_options_is_refused_by_the_option_s_name(made):
    with pytest.raises(ValueError, match=f"made with {next(iter(made))}=True"):
        scale_by_rms().update(jnp.ones(2), scale_by_rms(**made).init(jnp.ones(2)))
    with pytest.raises(ValueError, match=f"made with {next(iter(made))}=False"):
        scale_by_rms(**made).update(jnp.ones(2), scale_by_rms().init(jnp.ones(2)))


def test_a_state_of_another_library_is_refused_by_its_type():
    with pytest.raises(TypeError, match=r"optax\S*\.ScaleByRmsState"):
        scale_by_rms().update(jnp.ones(2), optax.scale_by_rms().init(jnp.ones(2)))


def test_a_moment_in_low_precision_is_refused():
    tx = scale_by_rms()
    state = tx.init({"w": jnp.ones(2)})
    for dtype in ("bfloat16", "uint8"):
        with pytest.raises(TypeError, match=rf"`state.nu` at w must be float32 or better, got {dtype}"):
            tx.update({"w": jnp.ones(2)}, state._replace(nu={"w": jnp.zeros(2, dtype)}))


def test_centered_with_bias_correction_is_refused():
    with pytest.raises(ValueError, match="`centered` and `bias_correction` exclude each other"):
        scale_by_rms(centered=True, bias_correction=True)
