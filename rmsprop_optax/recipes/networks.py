"""Published settings for networks: Inception v3, MobileNet v3, EfficientNet, char-rnn, the Wasserstein GAN, and DPO."""

from __future__ import annotations  # signatures in help() read as written here

from typing import Any

import jax
import jax.numpy as jnp
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.alias import rmsprop
from rmsprop_optax.dialects import ROWS, torch_rmsprop
from rmsprop_optax.dialects.clipping import chain_in_float32, clip_norm
from rmsprop_optax.dialects.complex_numbers import refusing_complex
from rmsprop_optax.recipes._schedules import staircase, steps_of_epoch, warmed_up

__all__ = ["char_rnn", "dpo", "efficientnet", "inception_v3", "mobilenet_v3", "wgan"]


@value
def inception_v3(
    steps_per_epoch: float,
    learning_rate: jax.typing.ArrayLike | None = None,
    *,
    source: str = "inception",
    weight_decay: jax.typing.ArrayLike | None = 4e-5,
    weight_decay_mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Train Inception v3 on ImageNet as TensorFlow's two public programs do.

    .. math::
        b_t = 0.9 b_{t-1} + \alpha_t g_t / \sqrt{\nu_t + 1}, \qquad \nu_0 = 1, \qquad \beta = 0.9

    Weight decay is an L2 penalty on the weights. With eps 1 and small gradients this is nearly descent with momentum.
    The sources disagree on the learning rate:

    1. "inception" (a batch of 256): 0.1, multiplied by 0.16 every 30 epochs.
    2. "slim" (a batch of 32), also the default of its other networks: 0.01, multiplied by 0.94 every 2 epochs.

    Args:
      steps_per_epoch: The updates of an epoch, above 0. A number.
      learning_rate: :math:`\alpha_0`, in [0, inf). A number; may be traced. None means the source's.
      source: "inception" or "slim". Structure.
      weight_decay: In [0, inf). A number; may be traced. With None there is no decay; otherwise `update`
        needs the parameters.
      weight_decay_mask: As in `rmsprop`. None decays arrays of two dimensions or more, which leaves out biases and
        normalization, as both do; True decays everything. Structure.

    Returns:
      The transformation.

    Raises:
      ValueError: The source is unknown; a number is out of range.
      TypeError: An argument is not a number.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import recipes
      >>> params = {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)}
      >>> tx = recipes.inception_v3(steps_per_epoch=5004)
      >>> updates, _ = tx.update({"kernel": jnp.zeros((1, 1)), "bias": jnp.zeros(1)}, tx.init(params), params)
      >>> print(f"{updates['kernel'][0, 0]:.3g} {updates['bias'][0]}")  # -0.1 * 4e-5 / sqrt(0.9 + 1), and 0
      -2.9e-06 0.0

    References:
      tensorflow/models at 4f77686, research/inception/inception/inception_train.py, `initial_learning_rate` and below,
      `RMSPROP_DECAY` and below, and `train`; at 0866e7d, inception/inception/inception_model.py, `inference` (weight
      decay); at 07ed366, research/slim/train_image_classifier.py, its optimization and learning rate flags.
    """
    _checks.one_of("source", source, ("inception", "slim"))
    initial, epochs, factor = (0.1, 30, 0.16) if source == "inception" else (0.01, 2, 0.94)
    rate = staircase(initial if learning_rate is None else learning_rate, steps_per_epoch, epochs, factor)
    return _tf1_with_l2(rate, 1.0, weight_decay, _weights if weight_decay_mask is None else weight_decay_mask)


@value
def mobilenet_v3(
    steps_per_epoch: float, learning_rate: jax.typing.ArrayLike = 0.064
) -> optax.GradientTransformationExtraArgs:
    r"""Train MobileNet v3 on ImageNet as mmpretrain does, after torchvision.

    .. math::
        b_t &= 0.9 b_{t-1} + (g_t + 10^{-5} \theta_{t-1}) / (\sqrt{\nu_t} + 0.0316), \qquad \beta = 0.9 \\
        \theta_t &= \theta_{t-1} - \alpha_t b_t

    eps is outside the root, and 0.0316 is the root of 1e-3, which TensorFlow's networks of this family have inside it
    (see :func:`efficientnet`): the limit for small gradients is the same. A literal 1e-3 in PyTorch makes it 32 times
    larger. Weight decay is an L2 penalty on all parameters. The learning rate, for a batch of 1024, is multiplied by
    0.973 every 2 epochs.

    TensorFlow's page on this network does not give its authors' settings, so they are not offered here.

    Args:
      steps_per_epoch: The updates of an epoch, above 0. A number.
      learning_rate: :math:`\alpha_0`, in [0, inf). A number; may be traced.

    Returns:
      The transformation. `update` needs the parameters.

    Raises:
      ValueError: A number is out of range.
      TypeError: An argument is not a number.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import recipes
      >>> tx = recipes.mobilenet_v3(steps_per_epoch=1251)
      >>> params = jnp.zeros(())
      >>> print(f"{tx.update(1e-9, tx.init(params), params)[0]:.4g}")  # -0.064 * 1e-9 / 0.0316
      -2.025e-09

    References:
      open-mmlab/mmpretrain at 0bd2f7c, configs/mobilenet_v3/mobilenet-v3-large_8xb128_in1k.py, lines 9-26, which refers
      to torchvision 0.9; tensorflow/models at 0ba83cf, research/slim/nets/mobilenet/README.md, "Training, V3".
    """
    return torch_rmsprop(staircase(learning_rate, steps_per_epoch, 2, 0.973), 0.9, 0.0316, 1e-5, 0.9)


@value
def efficientnet(
    steps_per_epoch: float,
    learning_rate: jax.typing.ArrayLike = 0.128,
    *,
    weight_decay: jax.typing.ArrayLike | None = 1e-5,
    weight_decay_mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Train EfficientNet on ImageNet as its authors' code does.

    .. math::
        b_t = 0.9 b_{t-1} + \alpha_t g_t / \sqrt{\nu_t + 10^{-3}}, \qquad \nu_0 = 1, \qquad \beta = 0.9

    The learning rate is 0.016 for every 256 images of the batch: 0.128 for the code's 2048. It rises linearly from 0
    over 5 epochs; after that it is multiplied by 0.97 every 2.4 epochs, counted from the first epoch. Weight decay is
    an L2 penalty on all parameters except those of batch normalization.

    Args:
      steps_per_epoch: The updates of an epoch, above 0. A number.
      learning_rate: Before any decay, in [0, inf). A number; may be traced.
      weight_decay: In [0, inf). A number; may be traced. With None there is no decay; otherwise `update`
        needs the parameters.
      weight_decay_mask: As in `rmsprop`. None leaves out the leaves with "batch norm" in their path, with or
        without a separator, in upper or lower case: "BatchNorm_0/scale". If yours are named otherwise, pass a mask.
        Structure.

    Returns:
      The transformation.

    Raises:
      ValueError: A number is out of range.
      TypeError: An argument is not a number.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import recipes
      >>> tx = recipes.efficientnet(steps_per_epoch=2, weight_decay=None)
      >>> state = tx.init(jnp.zeros(()))
      >>> for step in range(2):  # the first has a learning rate of 0; then -0.0128 * 1 / sqrt(1 + 0.001)
      ...     updates, state = tx.update(jnp.ones(()), state)
      ...     print(f"{updates:.4f}")
      0.0000
      -0.0128

    References:
      tensorflow/tpu at 7dc921f, models/official/efficientnet/utils.py, lines 36-102, and main.py, lines 127-128,
      234-247, 291-295, 419-422 and 437-451.
    """
    fall = staircase(learning_rate, steps_per_epoch, 2.4, 0.97)
    peak, warmup = _checks.number("learning_rate", learning_rate), int(5 * steps_per_epoch)

    def rate(count):
        return jnp.where(count < warmup, peak * count / max(warmup, 1), fall(count))

    return _tf1_with_l2(rate, 1e-3, weight_decay, _no_batch_norm if weight_decay_mask is None else weight_decay_mask)


@value
def char_rnn(
    steps_per_epoch: float, learning_rate: jax.typing.ArrayLike = 2e-3
) -> optax.GradientTransformationExtraArgs:
    r"""Train a character-level recurrent network as char-rnn does.

    .. math::
        \theta_t = \theta_{t-1} - \alpha_t g_t / (\sqrt{\nu_t} + 10^{-8}), \qquad \beta = 0.95

    Each element of the gradient is first clipped to [-5, 5]. The learning rate is multiplied by 0.97 at the end of the
    tenth epoch and of each one after it.

    Args:
      steps_per_epoch: The updates of an epoch, above 0. A number.
      learning_rate: :math:`\alpha_0`, in [0, inf). A number; may be traced.

    Returns:
      The transformation.

    Raises:
      ValueError: A number is out of range.
      TypeError: An argument is not a number.

    Example:
      >>> from rmsprop_optax import recipes
      >>> tx = recipes.char_rnn(steps_per_epoch=1000)
      >>> print(f"{tx.update(50.0, tx.init(0.0))[0]:.4g}")  # -0.002 * 5 / sqrt(0.05 * 5**2)
      -0.008944

    References:
      karpathy/char-rnn at 6f9487a, train.lua, lines 42-50, 299, 306 and 328-335; the rule: torch/optim at a5ceed7,
      rmsprop.lua, lines 28-54, which starts at 0.
    """
    n = steps_of_epoch(steps_per_epoch)
    rate = optax.exponential_decay(_checks.number("learning_rate", learning_rate), n, 0.97, 9 * n, staircase=True)
    return chain_in_float32(optax.clip(5.0), torch_rmsprop(rate, 0.95, 1e-8))


@value
def wgan(learning_rate: jax.typing.ArrayLike = 5e-5) -> optax.GradientTransformationExtraArgs:
    r"""Train critic and generator of a Wasserstein GAN as its authors' code does.

    .. math::
        \theta_t = \theta_{t-1} - \alpha g_t / (\sqrt{\nu_t} + 10^{-8}), \qquad \beta = 0.99

    These are PyTorch's defaults. Each of the two networks has a separate optimizer. The training loop clamps the critic
    to [-0.01, 0.01] before each of its steps: `optax.projections.projection_box(critic, -0.01, 0.01)`.

    Args:
      learning_rate: :math:`\alpha`, in [0, inf). A number; may be traced.

    Returns:
      The transformation.

    Raises:
      ValueError: A number is out of range.
      TypeError: An argument is not a number.

    Example:
      >>> from rmsprop_optax import recipes
      >>> tx = recipes.wgan()
      >>> print(f"{tx.update(3.0, tx.init(0.0))[0]:.4g}")  # -5e-5 * 3 / sqrt(0.01 * 3**2)
      -0.0005

    References:
      martinarjovsky/WassersteinGAN at f7a01e8, main.py, lines 33-41, 160-162 and 184-186.
    """
    return torch_rmsprop(_checks.number("learning_rate", learning_rate))


@value
def dpo(learning_rate: jax.typing.ArrayLike = 5e-7) -> optax.GradientTransformationExtraArgs:
    r"""Tune a language model to preferences as the authors of direct preference optimization do.

    .. math::
        \theta_t = \theta_{t-1} - \alpha_t g_t / (\sqrt{\nu_t} + 10^{-8}), \qquad \beta = 0.99

    All gradients together are first clipped to norm 10. The learning rate rises linearly over 150 updates, the first of
    which has 1/151 of it, and then stays. The rest are PyTorch's defaults. The configuration says why it is RMSprop:
    "it works about as well as Adam and is more memory-efficient".

    Args:
      learning_rate: :math:`\alpha`, in [0, inf). A number; may be traced.

    Returns:
      The transformation.

    Raises:
      ValueError: A number is out of range.
      TypeError: `learning_rate` is not a number.

    Example:
      >>> from rmsprop_optax import recipes
      >>> tx = recipes.dpo()
      >>> print(f"{tx.update(1.0, tx.init(0.0))[0]:.4g}")  # -5e-7 / 151 * 1 / sqrt(0.01 * 1)
      -3.311e-08

    References:
      eric-mitchell/direct-preference-optimization at f8b8c0f, config/config.yaml, lines 51-59 and 79-83, and
      trainers.py, lines 276-277, 369-371 and 397-399. PyTorch's clipping adds 1e-6 to the norm; here nothing is added.
    """
    return chain_in_float32(*clip_norm("max_grad_norm", 10.0), torch_rmsprop(warmed_up(learning_rate, 150)))


def _tf1_with_l2(
    rate: optax.Schedule, eps: float, weight_decay: Any, mask: Any
) -> optax.GradientTransformationExtraArgs:
    """TensorFlow 1's RMSprop on a loss with an L2 penalty."""
    tx = rmsprop(
        rate,
        0.9,
        eps,
        initial_scale=1.0,
        momentum=0.9,
        weight_decay=weight_decay,
        decoupled_weight_decay=False,
        weight_decay_mask=None if weight_decay is None else mask,
    )
    return refusing_complex(tx, ROWS["tf1"].api)


def _weights(params: Any) -> Any:
    return jax.tree.map(lambda p: jnp.ndim(p) >= 2, params)


def _no_batch_norm(params: Any) -> Any:
    def decays(path, leaf):
        del leaf
        return "batchnorm" not in jax.tree_util.keystr(path).lower().replace("_", "").replace(" ", "")

    return jax.tree_util.tree_map_with_path(decays, params)
