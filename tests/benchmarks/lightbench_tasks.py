"""The table of LightBench's tasks that are formulas: their difficulties, starts, win conditions and noise."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import analytic_tasks as a
import jax.numpy as jnp
from analytic_tasks import FOLLOWED

DIFFICULTIES = ("trivial", "easy", "medium", "hard", "extreme", "nightmare")
SIZES = (4, 16, 512, 2**13, 2**15, 2**17)

OFFSETS, DELAYS, DECADES = (32, 16, 8, 4, 2, 1), (2, 4, 16, 64, 128, 256), (1, 2, 3, 4, 5, 6)
MASKS, PENALTIES = (2**-1, 2**-3, 2**-6, 2**-8, 2**-11, 2**-14), (1e1, 1e2, 1e4, 1e6, 1e8, 1e10)
BINS, GROWING, EQUAL = (64, 32, 16, 8, 4, 2), (1, 0, -1), (0, 0, 0)


class Task(NamedTuple):
    """One family of tasks; `memory` is what the objective remembers from step to step, `level` and `step` included."""

    levels: tuple[float, ...]  # the number that makes it harder, one for each difficulty
    start: Callable[..., Any]  # key, level -> parameters, memory
    loss: Callable[..., Any]  # parameters, memory, batch -> the loss whose gradient is trained on
    score: Callable[..., Any]  # parameters, memory, loss -> what must fall below the target
    target: float
    every: int = 1  # the score counts at steps that are multiples of it
    noise: Callable[..., Any] | None = None  # generator, steps, level -> batches
    after: Callable[..., Any] = lambda memory, x, batch: {}  # the memory that changes
    longer: int = 1  # times the common number of steps
    winnable: bool = True  # whether following the gradient can lead to a win

    @property
    def difficulties(self) -> dict[str, float]:
        return dict(zip(DIFFICULTIES, self.levels, strict=False))


loss_below = functools.partial(Task, score=a.the_loss)
near_zero = functools.partial(Task, score=a.distance, every=256)  # LightBench looks at parameters every 256 steps
near_target = functools.partial(near_zero, score=a.from_target)
some = a.normal((FOLLOWED,))

TASKS = {
    "beale": loss_below((0,), a.at(-7, -4), a.beale, target=1e-8),
    "rosenbrock": loss_below((0,), a.at(-7, -4), a.rosenbrock, target=1e-9),
    "rastrigin": loss_below((0,), a.at(-2.2, -2.2), a.rastrigin, target=1e-2),
    "saddle_point": loss_below((1, 2, 4, 8, 16, 32), a.at(1.2, 1.9), a.saddle, target=0.1),
    "plateau_navigation": loss_below((1, 4, 8, 12, 16, 20), a.at(1.5, 1.5), a.plateau, target=1e-4),
    "discontinuous_gradient": near_zero((0,), some, a.sampled(a.bent, 1024), target=1e-4),
    "quadratic_varying_scale": near_zero(SIZES, a.sized(scale=a.ramp), a.scaled(jnp.square), target=1e-7),
    "quadratic_varying_target": near_target(SIZES, a.sized(target=a.unit), a.mean_square, target=1e-8),
    "quadratic_flip": near_zero(SIZES, a.sized(share=a.share), a.flipped, target=1e-7, noise=a.uniform()),
    "quadratic_outliers": near_zero(
        (4, 16, 512, 2**13, 2**15, 2**17), a.normal((128,)), a.outliers, target=1e-7, noise=a.uniform(128)
    ),
    "quadratic_sparse": near_zero(SIZES, a.all_of(1), a.largest, target=1e-7),
    "quadratic_quantized_gradient": near_zero(BINS, a.normal((128,)), a.rounded_gradient, target=1e-7),
    "quadratic_quantization_aware_training": near_zero(
        BINS, a.normal((128,)), a.rounded_weights, target=1e-7, winnable=False
    ),
    "absolute_varying_scale": near_zero(SIZES, a.sized(scale=a.ramp), a.scaled(jnp.abs), target=1e-7),
    "ill_conditioned": loss_below(DECADES, a.decades, a.conditioned, target=1e-3),
    "ill_conditioned_mismatched": Task(DECADES, a.decades, a.conditioned, a.square, 1e-3),
    "scale_invariant": loss_below(DECADES, a.scaled_start, a.logarithm, target=1e-3),
    "layer_wise_scale": Task(
        (2, 1e1, 1e3, 1e3, 1e7, 1e9),
        a.layers(EQUAL),
        a.sampled(a.layer_loss(GROWING), 1024),
        a.whole_loss(1024),
        1e-4,
    ),
    "parameter_scale": Task(
        (1e3, 1e1, 1e3, 1e5, 1e3, 1e3),
        a.layers(GROWING),
        a.sampled(a.layer_loss(EQUAL), 1024),
        a.whole_loss(1024),
        1e-4,
    ),
    "momentum_utilization": Task(
        (0.004, 0.02, 0.1, 0.5, 1, 2), some, a.sampled(a.waves, 1024), a.whole_loss(1024), 1e-6
    ),
    "adversarial_gradient": near_zero((1000, 100, 10, 7, 4, 2), some, a.sampled(a.swinging, 1024), target=1e-3),
    "dynamic_landscape": Task((1000, 100, 20, 10, 6, 4), some, a.sampled(a.moving, 2**14), a.whole_loss(2**14), 1e-2),
    "vanishing_gradient": near_zero(
        (-1, -2, -4, -8, -12, -16), some, a.sampled(a.vanishing, 512), target=1e-2, winnable=False
    ),
    "non_markovian": near_target(DELAYS, a.non_markovian_start, a.norm, target=1e-4, longer=2),
    "constrained_optimization_relu": Task(PENALTIES, a.at(*[0] * 16), a.constrained(a.over), a.off_by, 1e-3, every=32),
    "constrained_optimization_log": Task(
        PENALTIES, a.at(*[0] * 16), a.constrained(a.barrier), a.off_by, 1e-3, every=32
    ),
    "minimax": near_zero(SIZES, a.all_of(2), a.minimax, target=1e-3, noise=a.gaussian(1), winnable=False),
    "wide_linear": near_zero(
        (4, 32, 512, 2**11, 2**13, 2**14),
        a.matrix,
        a.cumulative,
        score=a.beyond_the_sign,
        target=1e-3,
        noise=a.gaussian(lambda n: 16 * n),
        winnable=False,
    ),
    "batch_size_scaling": near_zero(
        (2**16, 2**13, 2**10, 2**7, 16, 2), some, a.batch_size, target=1e-8, noise=a.batch_noise
    ),
    "gradient_noise_scale_white": near_zero(OFFSETS, some, a.noisy, target=1e-3, noise=a.gaussian(FOLLOWED)),
    "gradient_noise_scale_heavy_tailed": near_zero(OFFSETS, some, a.noisy, target=1e-3, noise=a.cauchy),
    "gradient_noise_scale_instantaneous_brown": near_zero(OFFSETS, some, a.noisy, target=1e-3, noise=a.walk),
    "gradient_noise_scale_temporal_brown": near_zero(
        OFFSETS, a.normal((FOLLOWED,), total=0.0), a.walking, target=1e-3, noise=a.gaussian(FOLLOWED), after=a.walked
    ),
    "sparse_gradient": Task(
        MASKS,
        a.normal((FOLLOWED,), mask=0.0),
        a.sparse,
        a.expected_loss,
        1e-4,
        noise=a.uniform(FOLLOWED),
        after=a.masked,
    ),
    "sparse_parameters": Task(MASKS, a.masked_start, a.mean_of_all, a.share_of_square, 1e-4),
    "gradient_delay": Task(DELAYS, a.late_start, a.late, a.late_score, 1e-4, after=a.aged, longer=2),
}
