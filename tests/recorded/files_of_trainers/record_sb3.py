"""Train A2C of Stable-Baselines3 for 40 steps, save it as it saves itself, and record how its optimizer goes on.

    python tests/recorded/files_of_trainers/record_sb3.py

With stable-baselines3 2.9.2 and PyTorch 2.14.1. One file has the default, torch.optim.RMSprop; the other RMSpropTFLike.
"""

import going_on
from stable_baselines3 import A2C
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

OPTIONS = {
    "sb3_a2c": {},
    "sb3_a2c_tf_like": {
        "use_rms_prop": False,
        "policy_kwargs": {
            "optimizer_class": RMSpropTFLike,
            "optimizer_kwargs": {"alpha": 0.95, "eps": 1e-5, "momentum": 0.5},
        },
    },
}


def main():
    for name, options in OPTIONS.items():
        options = {"learning_rate": 0.05, **options}
        options["policy_kwargs"] = {"net_arch": [4], **options.get("policy_kwargs", {})}
        agent = A2C("MlpPolicy", "CartPole-v1", seed=0, device="cpu", **options)
        agent.learn(40 * agent.n_steps)
        agent.save(going_on.HERE / f"{name}.zip", exclude=["_last_obs", "_last_episode_starts", "_last_original_obs",
                                                           "ep_info_buffer", "ep_success_buffer"])  # fmt: skip
        named = dict(agent.policy.named_parameters())
        step = going_on.torch_step(agent.policy.optimizer, named)
        going_on.write(name, going_on.of_torch(named), step)


if __name__ == "__main__":
    main()
