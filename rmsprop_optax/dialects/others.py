"""The RMSprop of optax, Paddle, MindSpore, MLX and Chainer."""

from __future__ import annotations  # signatures in help() read as written here

from typing import Any

import jax
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.dialects.assemble import above_zero, assemble, unless_zero


@value
def optax_rmsprop(
    learning_rate: optax.ScalarOrSchedule,
    decay: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-8,
    initial_scale: jax.typing.ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: jax.typing.ArrayLike | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `optax.rmsprop` does.

    .. math::
        \nu_t &= \beta \nu_{t-1} + (1 - \beta) |g_t|^2, \qquad \nu_0 = \text{initial\_scale} \\
        b_t &= m b_{t-1} + \alpha_t g_t / \sqrt{\nu_t + \epsilon} \\
        \theta_t &= \theta_{t-1} - b_t

    This is `rmsprop` without the arguments that optax does not have; it departs from `rmsprop` with its defaults in no
    point. Two calls that optax accepts are refused:

    1. `centered` with `bias_correction`, whose first step optax divides by zero.
    2. `nesterov` without `momentum`, which optax ignores.

    Args:
      learning_rate: :math:`\alpha`, in [0, inf). A number, which may be traced, or a schedule.
      decay: :math:`\beta`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the squared gradient, or of the gradient without `eps_in_sqrt`.
        A number; may be traced.
      initial_scale: :math:`\nu_0`, in [0, inf). A number; may be traced.
      eps_in_sqrt: Whether eps is added inside the root. Structure.
      centered: Whether to divide by the standard deviation instead. Structure.
      momentum: :math:`m`, in [0, 1). None means no trace; a number, 0.0 included, keeps one. May be traced.
      nesterov: Whether the momentum looks ahead. Structure.
      bias_correction: Whether :math:`\nu_t / (1 - \beta^t)` stands in for :math:`\nu_t`. Structure.

    Returns:
      A transformation that is a value. Its state has optax's `nu` (less `mu` squared when centered), `mu`, `trace`.

    Raises:
      ValueError: A number out of range; the two calls above; trees that differ in structure or shape.
      TypeError: A number in half precision, a switch that is no bool, leaves that are not floating-point or complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.optax_rmsprop(learning_rate=0.1, decay=0.75, eps=0.0)
      >>> print(tx.update(jnp.array([6.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 6 / sqrt(0.25 * 36)
      [-0.2]

    References:
      optax 0.2.8, optax/_src/alias.py, lines 2016-2046, and transform.py, lines 130-150; the arguments: alias.py, lines
      1935-1945.
    """
    return assemble(
        "optax",
        moved={"initial_scale": initial_scale, "eps_in_sqrt": eps_in_sqrt, "bias_correction": bias_correction},
        learning_rate=learning_rate,
        decay=decay,
        eps=eps,
        momentum=momentum,
        centered=centered,
        nesterov=nesterov,
    )


@value
def paddle_rmsprop(
    learning_rate: optax.ScalarOrSchedule,
    rho: jax.typing.ArrayLike = 0.95,
    epsilon: jax.typing.ArrayLike = 1.0e-6,
    momentum: jax.typing.ArrayLike = 0.0,
    centered: bool = False,
    *,
    weight_decay: optax.ScalarOrSchedule | None = None,
    grad_clip: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `paddle.optimizer.RMSProp` does.

    .. math::
        g_t &\leftarrow \operatorname{clip}(g_t) + \lambda \theta_{t-1} \\
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2, \qquad v_0 = 0 \\
        b_t &= \mu b_{t-1} + \eta_t g_t / \sqrt{v_t + \epsilon} \\
        \theta_t &= \theta_{t-1} - b_t

    It departs from `rmsprop` with its defaults in these points:

    1. `rho` is 0.95 and `epsilon` 1e-6.
    2. Weight decay is an L2 penalty, after the clipping.
    3. There is a momentum buffer whatever the momentum. It is heavy ball; Paddle's documentation says Nesterov.
    4. Complex parameters are refused: Paddle has no such kernel.

    Paddle rounds `rho`, `epsilon` and `momentum` to float32 even for float64 parameters; here they are not.
    `parameters` and `name` are left out; the arguments behind them are by keyword only.

    Args:
      learning_rate: :math:`\eta`, in [0, inf). A number, which may be traced, or a schedule.
      rho: :math:`\rho`, in [0, 1). A number; may be traced.
      epsilon: :math:`\epsilon`, in [0, inf), in units of the squared gradient. A number; may be traced.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced.
      centered: Whether to divide by the standard deviation instead. Structure.
      weight_decay: :math:`\lambda`, in [0, inf). A number, which may be traced, or a schedule; `update` then needs the
        parameters. None means none.
      grad_clip: optax's counterpart of Paddle's: `optax.clip_by_global_norm(c)` for `ClipGradByGlobalNorm(c)`,
        `optax.clip(c)` for `ClipGradByValue(c)`. None does not clip. Structure.

    Returns:
      A transformation that is a value. Its state has `nu`, `mu`, `trace` for Paddle's `mean_square` (less `mean_grad`
      squared when centered), `mean_grad`, `momentum`; the trace has the opposite sign.

    Raises:
      ValueError: A number out of range; trees that differ in structure or shape.
      TypeError: A number in half precision, a switch that is no bool, leaves that are not floating-point, a `grad_clip`
        that is not optax's.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.paddle_rmsprop(learning_rate=0.1, rho=0.75, epsilon=0.0, grad_clip=optax.clip(1.0))
      >>> print(tx.update(jnp.array([6.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 1 / sqrt(0.25 * 1)
      [-0.2]

    References:
      Paddle 3.3.1, python/paddle/optimizer/rmsprop.py, lines 228-257 (the start) and 259-298; the arguments: lines
      177-190; its kernel: paddle/phi/kernels/impl/rmsprop_kernel_impl.h.
    """
    if grad_clip is not None and not isinstance(grad_clip, optax.GradientTransformation):
        raise TypeError(f"`grad_clip` must be an optax transformation such as optax.clip(1.0), got {grad_clip!r}.")
    return assemble(
        "paddle",
        before=[] if grad_clip is None else [grad_clip],
        learning_rate=learning_rate,
        decay=rho,
        eps=epsilon,
        momentum=momentum,
        centered=centered,
        weight_decay=weight_decay,
    )


@value
def mindspore_rmsprop(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    decay: jax.typing.ArrayLike = 0.9,
    momentum: jax.typing.ArrayLike = 0.0,
    epsilon: jax.typing.ArrayLike = 1e-10,
    *,
    centered: bool = False,
    loss_scale: jax.typing.ArrayLike = 1.0,
    weight_decay: optax.ScalarOrSchedule = 0.0,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `mindspore.nn.RMSProp` does.

    .. math::
        g_t &\leftarrow g_t / \text{loss\_scale} + \lambda \theta_{t-1} \\
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2, \qquad v_0 = 1 \\
        b_t &= \mu b_{t-1} + \eta_t g_t / \sqrt{v_t + \epsilon} \\
        \theta_t &= \theta_{t-1} - b_t

    It departs from `rmsprop` with its defaults in these points:

    1. The mean square starts at 1, as in TensorFlow 1.
    2. `epsilon` is 1e-10.
    3. There is a momentum buffer whatever the momentum.
    4. Weight decay is an L2 penalty, and leaves out every parameter whose name contains `beta` or `gamma`. A name here
       is the path of the leaf: `norm/gamma`. Flax calls these `bias` and `scale`: rename them, or leave them out with
       `optax.partition`.
    5. `loss_scale` divides the gradient, not the decay.
    6. Complex parameters are refused: MindSpore has no such kernel.

    `mindspore.experimental.optim.RMSprop` is `torch_rmsprop`, argument by argument. `use_locking` is left out; the
    arguments behind it are by keyword only.

    Args:
      learning_rate: :math:`\eta`, in [0, inf). A number, which may be traced, or a schedule.
      decay: :math:`\rho`, in [0, 1). A number; may be traced.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced.
      epsilon: :math:`\epsilon`, in [0, inf), in units of the squared gradient. A number; may be traced.
      centered: Whether to divide by the standard deviation instead. Structure.
      loss_scale: What the loss was multiplied by, in (0, inf). A number; may be traced.
      weight_decay: :math:`\lambda`, in [0, inf). A number, which may be traced, or a schedule. A Python 0 means none;
        otherwise `update` needs the parameters.

    Returns:
      A transformation that is a value. Its state has `nu`, `mu`, `trace` for MindSpore's `mean_square` (less
      `mean_grad` squared when centered), `mean_grad`, `moment`; the trace has the opposite sign.

    Raises:
      ValueError: A number out of range; trees that differ in structure or shape.
      TypeError: A number in half precision, a switch that is no bool, leaves that are not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.mindspore_rmsprop(learning_rate=0.1, decay=0.75, epsilon=0.0, loss_scale=1024.0)
      >>> print(tx.update(jnp.array([1024.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 1 / sqrt(0.75 * 1 + 0.25 * 1)
      [-0.1]

    References:
      MindSpore 2.10.0, mindspore/nn/optim/rmsprop.py, lines 238-270, and optimizer.py, lines 267-272 (the names),
      397-418 (decay), 439-456 and 491-499 (loss scale); the arguments: rmsprop.py, lines 219-220.
    """
    scale = above_zero("loss_scale", loss_scale, " Leave it 1 if the loss is not scaled.")
    weight_decay = unless_zero(weight_decay)
    return assemble(
        "mindspore",
        before=[] if isinstance(scale, float) and scale == 1 else [optax.scale(1 / scale)],
        learning_rate=learning_rate,
        decay=decay,
        eps=epsilon,
        momentum=momentum,
        centered=centered,
        weight_decay=weight_decay,
        weight_decay_mask=None if weight_decay is None else _no_beta_or_gamma,
    )


@value
def mlx_rmsprop(
    learning_rate: optax.ScalarOrSchedule,
    alpha: jax.typing.ArrayLike = 0.99,
    eps: jax.typing.ArrayLike = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `mlx.optimizers.RMSprop` does.

    .. math::
        v_t &= \alpha v_{t-1} + (1 - \alpha) g_t^2, \qquad v_0 = 0 \\
        \theta_t &= \theta_{t-1} - \lambda_t g_t / (\sqrt{v_t} + \epsilon)

    It departs from `rmsprop` with its defaults in these points:

    1. eps is outside the root.
    2. `alpha` is 0.99, so the first step is 10 times the learning rate.
    3. Complex parameters are refused: MLX squares them without taking the magnitude.

    Args:
      learning_rate: :math:`\lambda`, in [0, inf). A number, which may be traced, or a schedule.
      alpha: :math:`\alpha`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the gradient; MLX refuses 0. A number; may be traced.

    Returns:
      A transformation that is a value. Its state has `nu` for MLX's `v`.

    Raises:
      ValueError: A number out of range; trees that differ in structure or shape.
      TypeError: A number in half precision, leaves that are not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.mlx_rmsprop(learning_rate=0.1, alpha=0.75, eps=1.0)
      >>> print(tx.update(jnp.array([6.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 6 / (3 + 1)
      [-0.15]

    References:
      MLX 0.32.4, python/mlx/optimizers/optimizers.py, lines 338-354; the arguments: lines 317-322.
    """
    return assemble("mlx", learning_rate=learning_rate, decay=alpha, eps=eps)


@value
def chainer_rmsprop(
    lr: optax.ScalarOrSchedule = 0.01,
    alpha: jax.typing.ArrayLike = 0.99,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_inside_sqrt: bool = False,
    *,
    weight_decay: optax.ScalarOrSchedule | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `chainer.optimizers.RMSprop` does.

    .. math::
        v_t &= \alpha v_{t-1} + (1 - \alpha) g_t^2, \qquad v_0 = 0 \\
        \theta_t &= \theta_{t-1} - \gamma_t g_t / (\sqrt{v_t} + \epsilon)
            && \text{or } / \sqrt{v_t + \epsilon} \text{ with eps\_inside\_sqrt}

    It departs from `rmsprop` with its defaults in these points:

    1. eps is outside the root unless asked for.
    2. `alpha` is 0.99, so the first step is 10 times the learning rate.
    3. Weight decay is an L2 penalty. Chainer has it as a hook, `WeightDecay(rate)`; here it is an argument.
    4. Complex parameters are refused: Chainer squares them without taking the magnitude.

    Args:
      lr: :math:`\gamma`, in [0, inf). A number, which may be traced, or a schedule.
      alpha: :math:`\alpha`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the gradient, or of its square with `eps_inside_sqrt`. A number;
        may be traced.
      eps_inside_sqrt: Whether eps is added inside the root. Structure.
      weight_decay: The hook's rate, in [0, inf). A number, which may be traced, or a schedule; `update` then needs the
        parameters. None means no hook.

    Returns:
      A transformation that is a value. Its state has `nu` for Chainer's `ms`.

    Raises:
      ValueError: A number out of range; trees that differ in structure or shape.
      TypeError: A number in half precision, a switch that is no bool, leaves that are not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.chainer_rmsprop(lr=0.1, alpha=0.75, eps=1.0)
      >>> print(tx.update(jnp.array([6.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 6 / (3 + 1)
      [-0.15]

    References:
      Chainer 7.8.1, chainer/optimizers/rmsprop.py, lines 68-90; the arguments: lines 138-140.
    """
    return assemble(
        "chainer",
        moved={"eps_in_sqrt": _checks.switch("eps_inside_sqrt", eps_inside_sqrt)},
        learning_rate=lr,
        decay=alpha,
        eps=eps,
        weight_decay=weight_decay,
    )


def _no_beta_or_gamma(params: Any) -> Any:
    """Mark what MindSpore decays, by the path of the leaf."""

    def decays(path, leaf):
        del leaf
        name = jax.tree_util.keystr(path)
        return "beta" not in name and "gamma" not in name

    return jax.tree_util.tree_map_with_path(decays, params)
