"""The benchmark's tasks are the published formulas, and the program that trains them counts wins as it says."""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

BENCHMARKS = pathlib.Path(__file__).parent / "benchmarks"


WAVES = np.sin(np.linspace(0, 2 * np.pi, 256) + 0.11)
BY_HAND = {  # parameters, memory, batch, loss
    "beale": ([-3, -0.5], {}, {}, 1.5**2 + 2.25**2 + 2.625**2),
    "rosenbrock": ([-7, -4], {}, {}, 64 + 53**2),
    "rastrigin": ([0.5, 1.5], {}, {}, (0.25 + 20 + 2.25 + 20) / 2),
    "saddle_point": ([-1, 2], {"level": 2}, {}, -1 + 32 + 10),
    "plateau_navigation": ([1, 0], {"level": 4}, {}, 1 / 2 - 1 / (1 + math.exp(4))),
    "discontinuous_gradient": ([-2, 3], {}, {}, (4 + 6) / 2 / 4),
    "quadratic_varying_scale": ([2, -1], {"scale": [0.25, 0.75]}, {}, 1.75),
    "quadratic_varying_target": ([2, -1], {"target": [0, 1], "size": 8}, {}, 1),
    "quadratic_flip": ([2, 3], {"share": [0.25, 0.75], "size": 8}, {"u": [0.5, 0.5]}, (4 - 9) / 8),
    "quadratic_outliers": ([1] * 128, {"level": 4}, {"u": [0.5] * 128}, (64 + 64 * 4) / 128),
    "quadratic_sparse": ([1, -3], {}, {}, 9),
    "quadratic_quantized_gradient": ([4, 1.2], {"level": 4}, {}, (4 * 4 + 1.2 * 2) / 2),
    "quadratic_quantization_aware_training": ([4, 1.2], {"level": 4}, {}, (16 + 4) / 2),
    "absolute_varying_scale": ([2, -1], {"scale": [0.25, 0.75]}, {}, 1.25),
    "ill_conditioned": ([2, 1], {"scale": [0.1, 10]}, {}, 5.2),
    "ill_conditioned_mismatched": ([2, 1], {"scale": [0.1, 10]}, {}, 5.2),
    "scale_invariant": ([math.sqrt(math.e - 1), 0], {}, {}, 1 / 2),
    "layer_wise_scale": ([[1, 1], [2, 2], [3, 3]], {"level": 10}, {}, (10 + 4 + 0.9) / 3 / 4),
    "parameter_scale": ([[1, 1], [2, 2], [3, 3]], {"level": 10}, {}, (1 + 4 + 9) / 3 / 4),
    "momentum_utilization": (
        [math.pi / 20],
        {"level": 0.5, "step": 9},
        {},
        ((math.pi / 20) ** 2 + math.cos(1) / 2) / 4,
    ),
    "adversarial_gradient": ([1, 3], {"level": 2, "step": 0}, {}, (5 + 2 * math.sin(0.55 * math.pi)) / 4),
    "dynamic_landscape": ([0] * 256, {"level": 100, "step": 9}, {}, (WAVES**2).sum() / 2**14),
    "vanishing_gradient": ([math.log(2), -math.log(4)], {"level": -1}, {}, (0.5 + 0.25) / 2 / 2),
    "non_markovian": ([3, 4], {"target": [0, 0]}, {}, 5),
    "constrained_optimization_relu": ([1.5, 0], {"level": 10}, {}, (0.25 + 5 + 4) / 2),
    "constrained_optimization_log": ([0.5, 0], {"level": 10}, {}, (2.25 - 10 * math.log(2) + 4) / 2),
    "minimax": ([1, 2], {}, {"z": [2]}, (4.5 - 0.5) ** 2),
    "wide_linear": (np.triu(np.ones((4, 4))), {}, {"z": range(64)}, 0),
    "batch_size_scaling": ([3, 4], {"level": 16}, {"z": [0, 1], "u": 1}, (9 + 6.5**2) / 1024),
    "gradient_noise_scale_white": ([1, 1], {"level": 2}, {"z": [2, -2]}, 4 / 4096),
    "gradient_noise_scale_heavy_tailed": ([1, 1], {"level": 2}, {"z": [2, -2]}, 4 / 4096),
    "gradient_noise_scale_instantaneous_brown": ([1, 1], {"level": 2}, {"z": [2, -2]}, 4 / 4096),
    "gradient_noise_scale_temporal_brown": (
        [1, 1],
        {"level": 2, "step": 3, "total": [1, 1]},
        {"z": [1, -1]},
        (1.5**2 + 1) / 4096,
    ),
    "sparse_gradient": ([1, 2, 3], {"level": 0.5, "mask": [0, 0, 1]}, {"u": [0.2, 0.9, 0.9]}, (1 + 9) / 2**16),
    "sparse_parameters": ([1, 3], {"share": 0.5}, {}, 10 / 2**16),
    "gradient_delay": (
        [[3], [5]],
        {"level": 2, "step": 1, "period": [[1], [2]], "old": [[9], [2]]},
        {},
        (9 + 4) / 256 / 2,
    ),
}


GRADIENTS = {
    "quadratic_quantization_aware_training": [0, 0],  # rounding has no derivative
    "quadratic_quantized_gradient": [2, 1],
    "vanishing_gradient": [-0.5 / 4, 0.25 / 4],  # away from 0, where it should end
    "minimax": [2 * 4 * 3, 2 * 4 * 3],  # equal for both, whose difference therefore stays
    "gradient_delay": [[2 * 3 / 512], [2 * 2 / 512]],  # of the newest and of the old number
    "constrained_optimization_log": [(-3 - 20) / 2, (-4 - 10) / 2],
}


def arrays(x, memory, batch):
    x = [np.float32(p) for p in x] if len(x) == 3 and np.ndim(x) == 2 else np.asarray(x, np.float32)
    return x, *({name: np.asarray(v, np.float32) for name, v in tree.items()} for tree in (memory, batch))


def test_values_and_gradients_are_those_found_by_hand(benchmark_modules):
    from lightbench_tasks import TASKS

    def both(given):
        return {name: jax.value_and_grad(TASKS[name].loss)(*each) for name, each in given.items()}

    assert TASKS.keys() == BY_HAND.keys()
    found = jax.device_get(jax.jit(both)({name: arrays(*row[:3]) for name, row in BY_HAND.items()}))
    for name, (value, gradients) in found.items():
        np.testing.assert_allclose(value, BY_HAND[name][3], rtol=1e-5, atol=1e-7, err_msg=name)
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients)), name
        if name in GRADIENTS:
            np.testing.assert_allclose(gradients, GRADIENTS[name], rtol=1e-5, err_msg=name)


def test_there_are_196_tasks(benchmark_modules):
    from lightbench_tasks import TASKS

    assert sum(len(task.difficulties) for task in TASKS.values()) == 4 + 32 * 6 == 196


def test_half_of_the_flipped_squares_push_away_from_the_minimum(benchmark_modules):
    from lightbench_tasks import TASKS

    task = TASKS["quadratic_flip"]
    _, memory = task.start(jax.random.key(0), 2**17)
    noise = task.noise(np.random.default_rng(0), 2000, 2**17)["u"]
    flips = (noise < np.asarray(memory["share"])).mean(0)
    np.testing.assert_array_equal(flips[:120] < 0.5, True)
    np.testing.assert_array_equal(flips[-120:] > 0.5, True)


def test_the_matrix_that_solves_wide_linear_is_counted_as_far_away(benchmark_modules):
    from lightbench_tasks import TASKS

    x, *_ = arrays(*BY_HAND["wide_linear"][:3])
    np.testing.assert_allclose(TASKS["wide_linear"].score(x, {}, 0), math.sqrt(10 * 2**2 / 16), rtol=1e-6)


@pytest.mark.full
def test_gradients_fill_the_shapes_of_the_parameters_and_a_memory_s_gradient_is_what_it_becomes(benchmark_modules):
    import lightbench

    for name in ("rastrigin", "layer_wise_scale", "gradient_noise_scale_temporal_brown", "gradient_delay"):
        task = lightbench.TASKS[name]
        level = task.levels[0]
        start = lightbench.start_of(task, level, jax.random.key(0))
        noise = lightbench.noise_of(task, level, 1)
        batch = None if noise is None else jax.tree.map(lambda leaf: leaf[0], noise)
        grads = jax.jit(jax.grad(lightbench.loss_of(task)))(start, batch)
        assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, start), name
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads)), name
        assert grads["memory"]["step"] == 1


@pytest.mark.full
@pytest.mark.parametrize("name", ["quadratic_varying_target", "non_markovian"])
def test_a_run_that_is_exact_before_its_score_counts_still_wins(name, benchmark_modules):
    import lightbench

    task = lightbench.TASKS[name]
    params = lightbench.start_of(task, task.levels[0], jax.random.key(0))
    params["x"], params["memory"]["step"] = params["memory"]["target"], jnp.ones(())
    score, gradients = jax.jit(jax.value_and_grad(lightbench.loss_of(task)))(params, None)
    assert (score, gradients["memory"]["won"]) == (0, 0)
    np.testing.assert_array_equal(gradients["x"], 0)
    params["memory"]["step"] = jnp.float32(256)
    assert jax.grad(lightbench.loss_of(task))(params, None)["memory"]["won"] == 1


def in_numpy(loss_and_gradient, x, rate, target, steps):
    """Train with the rule in float64; return the losses up to the first below the target."""
    x, nu, losses = np.array(x), 0.0, []
    for _ in range(steps):
        loss, g = loss_and_gradient(*x)
        losses.append(loss)
        if loss <= target:
            break
        nu = 0.9 * nu + 0.1 * g**2
        x = x - rate * g / np.sqrt(nu + 1e-8)
    return losses


def valley(x, y):
    return (1 - x) ** 2 + (y - x**2) ** 2, np.array([2 * (x - 1) - 4 * x * (y - x**2), 2 * (y - x**2)])


@pytest.mark.full
def test_the_program_trains_as_a_loop_in_numpy_does_and_stops_at_the_win(benchmark_modules):
    import lightbench

    task = lightbench.TASKS["rosenbrock"]
    found = lightbench.train(task, "trivial", "RMSprop", 2000, np.array([2.0**-7]))
    expected = in_numpy(valley, [-7.0, -4.0], 2.0**-7, task.target, 2000)
    np.testing.assert_allclose(found.losses[0, 0, :200], expected[:200], rtol=1e-3)
    easier = task._replace(target=1.0)
    found = lightbench.train(easier, "trivial", "RMSprop", 2000, np.array([2.0**-7]))
    first = len(in_numpy(valley, [-7.0, -4.0], 2.0**-7, 1.0, 2000)) - 1
    assert int(np.argmax(found.losses[0, 0] <= 1)) == first
    np.testing.assert_array_equal(found.losses[0, :, first:], 0)


@pytest.mark.full
def test_an_attempt_solves_what_the_chosen_rate_solves_for_most_seeds(benchmark_modules):
    import lightbench

    rates = 2.0 ** np.arange(-9, -1)
    for member, name in (("RMSprop", "discontinuous_gradient"), ("AdamW", "quadratic_varying_target")):
        row = lightbench.attempt(lightbench.TASKS[name], "trivial", member, (4096,), rates)
        assert row["solved"], member
        assert row["seeds"] >= 2
        assert row["steps"] % 256 == 0
    row = lightbench.attempt(
        lightbench.TASKS["quadratic_quantization_aware_training"], "easy", "RMSprop", (300,), rates
    )
    assert (row["solved"], row["seeds"], row["at some rate"]) == (False, 0, False)


def test_the_tables_are_those_of_what_was_trained(benchmark_modules):
    import lightbench_report as report

    folder = BENCHMARKS.parents[1] / "docs" / "evidence"
    whole, families, failures = (
        json.loads((folder / f"lightbench{part}.json").read_text()) for part in ("", "_families", "_failures")
    )
    done, members = whole["trained"], [row[0] for row in whole["rows"][:-1]]
    family = [member for member in members if member != "AdamW"]
    assert report.of_members(done, members, family) == (whole["columns"], whole["rows"])
    assert report.of_families(done, members) == (families["columns"], families["rows"])
    assert report.of_failures(done, whole["why"]) == (failures["columns"], failures["rows"])
    lost = {(name, d) for name, task in report.TASKS.items() for d in task.difficulties}
    lost -= {(name, d) for name in done for member in family for d in report.solved(done[name][member])}
    assert {(row[0], d) for row in failures["rows"] for d in row[1].split(", ")} == lost  # each has its reason
