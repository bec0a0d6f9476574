"""Published settings of RMSprop, learning-rate schedule and clipping included, each read at its source.

Where public code for one name disagrees, `source` chooses. A recipe is an optimizer and no more: averages of the
weights, loss scaling and data are not in it. A setting that no source states is left out. Calls with equal arguments
return equal optimizers, which hash, pickle and print.
"""

from rmsprop_optax.recipes.agents import a3c, dqn, dreamer_v3, impala, prioritized_dqn, qmix
from rmsprop_optax.recipes.networks import char_rnn, dpo, efficientnet, inception_v3, mobilenet_v3, wgan

__all__ = [
    "a3c",
    "char_rnn",
    "dpo",
    "dqn",
    "dreamer_v3",
    "efficientnet",
    "impala",
    "inception_v3",
    "mobilenet_v3",
    "prioritized_dqn",
    "qmix",
    "wgan",
]


def __dir__() -> list[str]:
    return __all__
