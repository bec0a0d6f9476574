"""Train Stable-Baselines3's own A2C on CartPole and write the lengths of its episodes: sb3_a2c.json, beside this file.

    pip install stable_baselines3==2.9.2 && python tests/recorded/returns/sb3_a2c.py

All settings are A2C's defaults, with eight environments. A seed is written as soon as it is done; --limit seconds are
enough for as many as they are enough for. examples/actor_critic.py --sb3 draws these curves beside its own.
"""

import argparse
import json
import pathlib
import time

import gymnasium
import stable_baselines3
import torch
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from tqdm import tqdm

FILE = pathlib.Path(__file__).with_suffix(".json")
ENVS = 8


class Lengths(BaseCallback):
    """Collect the mean length of the episodes that end in each chunk of frames; the reward of each step is 1."""

    def __init__(self, frames):
        super().__init__()
        self.frames, self.ended = frames, {}

    def _on_step(self):
        chunk = (self.num_timesteps - 1) // self.frames
        for info in self.locals["infos"]:
            if "episode" in info:
                self.ended.setdefault(chunk, []).append(info["episode"]["l"])
        return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--chunks", type=int, default=30)
    parser.add_argument("--frames", type=int, default=8000, help="of a chunk")
    parser.add_argument("--limit", type=float, default=900, help="start no seed after so many seconds")
    args = parser.parse_args()
    torch.set_num_threads(1)

    versions = {m.__name__: m.__version__ for m in (stable_baselines3, gymnasium, torch)}
    curves, began = [], time.monotonic()
    for seed in tqdm(range(args.seeds), unit="seed"):
        if time.monotonic() - began > args.limit:
            break
        lengths = Lengths(args.frames)
        agent = A2C("MlpPolicy", make_vec_env("CartPole-v1", ENVS, seed=seed), seed=seed, device="cpu")
        agent.learn(args.chunks * args.frames, callback=lengths)
        ended = [lengths.ended.get(chunk) for chunk in range(args.chunks)]
        curves.append([sum(e) / len(e) if e else None for e in ended])
        FILE.write_text(json.dumps({"versions": versions, "frames": args.frames, "curves": curves}) + "\n")


if __name__ == "__main__":
    main()
