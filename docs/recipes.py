"""Write the tables of recipes.md: who published what, where it was read, every number, and the call.

    python docs/recipes.py

The numbers are read from the optimizers that the calls make; what an optimizer does not show, its clipping and its
schedule in words, stands here.
"""

import argparse
import pathlib
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import page_tables

from rmsprop_optax import recipes
from rmsprop_optax.checkpoint.hyperparameters import options

PAGE = pathlib.Path(__file__).parent / "recipes.md"


class Source(NamedTuple):
    """One published setting: the call without its learning rate, who published it, and what the call does not show."""

    call: str
    who: str
    read: str
    clipping: str = "none"
    schedule: str = "constant"


OF_ALL, WHOLE_RUN = "norm of all, {}", "falls linearly to 0 over `steps` updates"
DQN_ZOO, BASELINES = "google-deepmind/dqn_zoo at 45061f4", "openai/baselines at ea25b9e"
SOURCES = (
    Source("dqn()", "the code of the DQN paper", "kuz/DeepMind-Atari-Deep-Q-Learner at ff6086c", "each error, 1"),
    Source('dqn(source="dqn_zoo")', "dqn_zoo", DQN_ZOO, "each error, 1/32"),
    Source('dqn(source="dopamine")', "Dopamine on TensorFlow", "google/dopamine at 5873f54", "Huber loss"),
    Source("prioritized_dqn()", "dqn_zoo, prioritized replay", DQN_ZOO, "each error, 1/32"),
    Source("a3c(steps)", "Mnih, by e-mail", "github.com/muupan/async-rl/wiki", "not said", WHOLE_RUN),
    Source('a3c(steps, source="async_rl")', "async-rl", "muupan/async-rl at 5c5844f", OF_ALL.format(40), WHOLE_RUN),
    Source('a3c(steps, source="baselines")', "Baselines' A2C", BASELINES, OF_ALL.format(0.5), WHOLE_RUN),
    Source('a3c(None, source="sb3")', "Stable-Baselines3's A2C", "stable-baselines3 2.9.2", OF_ALL.format(0.5)),
    Source(
        "impala(steps)", "the code of the IMPALA paper", "google-deepmind/scalable_agent at 6c0c8a7", "none", WHOLE_RUN
    ),
    Source(
        'impala(steps, source="torchbeast")',
        "TorchBeast",
        "facebookresearch/torchbeast at 0af07b0",
        OF_ALL.format(40),
        WHOLE_RUN,
    ),
    Source(
        'impala(steps, source="cleanba")',
        "Cleanba",
        "vwxyzjn/cleanba at d1f8979",
        OF_ALL.format(40),
        f"{WHOLE_RUN}, once every 4",
    ),
    Source("qmix()", "pymarl", "oxwhirl/pymarl at c971afd", OF_ALL.format(10)),
    Source(
        "dreamer_v3()",
        "the code of DreamerV3",
        "danijar/dreamerv3 at f8817c4",
        "norm of each, 0.3 of its parameter's",
        "rises linearly from 0 over 1000 updates",
    ),
    Source(
        "dpo()",
        "the authors of DPO",
        "eric-mitchell/direct-preference-optimization at f8b8c0f",
        OF_ALL.format(10),
        "rises linearly from 1/151 over 150 updates",
    ),
    Source(
        "inception_v3(steps_per_epoch)",
        "TensorFlow's inception",
        "tensorflow/models at 4f77686",
        "none",
        "times 0.16 every 30 epochs",
    ),
    Source(
        'inception_v3(steps_per_epoch, source="slim")',
        "TensorFlow's slim",
        "tensorflow/models at 07ed366",
        "none",
        "times 0.94 every 2 epochs",
    ),
    Source(
        "mobilenet_v3(steps_per_epoch)",
        "mmpretrain",
        "open-mmlab/mmpretrain at 0bd2f7c",
        "none",
        "times 0.973 every 2 epochs",
    ),
    Source(
        "efficientnet(steps_per_epoch)",
        "the authors of EfficientNet",
        "tensorflow/tpu at 7dc921f",
        "none",
        "rises linearly from 0 over 5 epochs; times 0.97 every 2.4",
    ),
    Source(
        "char_rnn(steps_per_epoch)",
        "char-rnn",
        "karpathy/char-rnn at 6f9487a",
        "each element, 5",
        "times 0.97 from epoch 10 on, each epoch",
    ),
    Source("wgan()", "the authors of the Wasserstein GAN", "martinarjovsky/WassersteinGAN at f7a01e8", "none"),
)
ARGUMENTS = {"steps": 1_000_000, "steps_per_epoch": 100}


def made(source):
    """Return the options of the optimizer that a call makes."""
    return options(eval(f"recipes.{source.call}", {"recipes": recipes} | ARGUMENTS))


def page(text):
    """Return the page with its tables written from the calls."""
    return page_tables.page(text, {"numbers": numbers(), "sources": sources()})


def numbers():
    head = ["`recipes.`", "rate", "decay", "eps", "`nu` starts at", "centered", "momentum", "weight decay"]
    return page_tables.table(head, [_numbers(source) for source in SOURCES])


def _numbers(source):
    found = made(source)
    kind = "average of" if found.get("average_momentum") else "outside" if not found["lr_in_momentum"] else "inside"
    momentum = found.get("momentum") or 0
    decay = found.get("weight_decay") or 0
    return [
        f"`{source.call}`",
        _number(largest(found["learning_rate"])),
        _number(found["decay"]) + (", corrected" if found["bias_correction"] else ""),
        f"{_number(found['eps'])} {'in the root' if found['eps_in_sqrt'] else 'outside'}",
        _number(found["initial_scale"]),
        "yes" if found.get("centered") else "no",
        f"{_number(momentum)}, rate {kind}".replace("rate average of", "average of the steps") if momentum else "none",
        f"{_number(decay)}, {'decoupled' if found['decoupled_weight_decay'] else 'L2'}" if decay else "none",
    ]


def largest(rate):
    """Return the largest rate of a schedule, which is the published one."""
    return float(jnp.max(jax.vmap(rate)(jnp.arange(2000)))) if callable(rate) else rate


def _number(x):
    return re.sub(r"e-0", "e-", f"{float(x):.4g}")


def sources():
    head = ["`recipes.`", "who", "read at", "clipping", "learning rate"]
    return page_tables.table(head, [[f"`{s.call}`", s.who, s.read, s.clipping, s.schedule] for s in SOURCES])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=PAGE, help="where to write (default: beside this file)")
    out = parser.parse_args().out
    out.write_text(page(PAGE.read_text()))
    print(f"wrote {out}")
