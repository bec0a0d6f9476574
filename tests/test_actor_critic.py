"""examples/actor_critic.py plays CartPole-v1, sums returns as it says, and updates as Stable-Baselines3's A2C does."""

import json
import math
import pathlib
import re

import actor_critic
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cartpole import environment, report

from rmsprop_optax import checkpoint

DOCS = pathlib.Path(__file__).parent.parent / "docs"
RESULTS = json.loads((DOCS / "evidence" / "actor_critic.json").read_text())
KEY = jax.random.key(0)
PAGE = (DOCS / "reinforcement_learning.md").read_text()
play = jax.jit(environment.step)


def derivatives(position, speed, angle, spin, force):
    """Solve the equations of motion of a cart of 1 kg and a pole of 0.1 kg, half a metre to its centre."""
    mass, pole, half, gravity = 1.0, 0.1, 0.5, 9.8
    system = [[mass + pole, pole * half * math.cos(angle)], [math.cos(angle), 4 / 3 * half]]
    right = [force + pole * half * spin**2 * math.sin(angle), gravity * math.sin(angle)]
    push, turn = np.linalg.solve(system, right)
    return np.array([speed, push, spin, turn])


def test_the_cart_follows_the_equations_of_motion_in_float64():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        for _ in range(300):
            x = rng.uniform(-1, 1, size=(2, 4)) * [2.4, 3, 0.25, 3]
            action = rng.integers(2, size=2)
            after, _, _ = play(environment.Pole(jnp.array(x), jnp.zeros(2, jnp.int32)), jnp.array(action))
            forces = np.where(action == 1, 10.0, -10.0)
            euler = [one + 0.02 * derivatives(*one, force) for one, force in zip(x, forces, strict=True)]
            np.testing.assert_allclose(after.x, euler, rtol=0, atol=1e-13)


def test_a_pole_terminates_beyond_its_bounds_and_is_truncated_after_500_steps():
    degree = math.pi / 180
    x = [[2.39, 0, 0, 0], [2.41, 0, 0, 0], [0, 0, -11.9 * degree, 0], [0, 0, -12.1 * degree, 0], [-2.41, 0, 0, 0]]
    fell = [False, True, False, True, True]
    for t, truncated in ((498, [False] * 5), (499, [True, False, True, False, False])):
        pole = environment.Pole(jnp.array(x), jnp.full(5, t, jnp.int32))
        after, terminated, up = play(pole, jnp.zeros(5, jnp.int32))
        assert terminated.tolist() == fell
        assert up.tolist() == truncated
        assert after.t.tolist() == [t + 1] * 5


def test_a_return_ends_with_a_value_where_an_episode_was_truncated_and_without_where_it_terminated():
    g, reward = actor_critic.GAMMA, 1.0
    terminated, truncated = np.zeros((3, 3), bool), np.zeros((3, 3), bool)
    terminated[1, 1] = truncated[1, 2] = True  # the first environment goes on
    values = np.array([[10.0, 20.0, 30.0], [11.0, 21.0, 31.0], [12.0, 22.0, 32.0]])
    found = actor_critic.n_step_returns(np.full((3, 3), reward), values, terminated, truncated)
    goes_on = [1 + g + g**2 + g**3 * 12, 1 + g + g**2 * 12, 1 + g * 12]
    falls = [1 + g, 1, 1 + g * 22]
    time_is_up = [1 + g + g**2 * 31, 1 + g * 31, 1 + g * 32]
    np.testing.assert_allclose(found, np.transpose([goes_on, falls, time_is_up]), rtol=1e-6)


def test_an_episode_that_ended_starts_anew_and_its_last_observation_is_kept_for_its_return():
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(actor_critic.start, KEY))
    x = jnp.zeros((actor_critic.ENVS, 4)).at[0, 0].set(2.5).at[1].set(0.01)
    t = jnp.zeros(actor_critic.ENVS, jnp.int32).at[0].set(41).at[1].set(499)
    pole, frames, lengths = actor_critic.rollout(params, environment.Pole(x, t), KEY)
    assert frames.terminated[0].tolist() == [True] + [False] * 7
    assert frames.truncated[0].tolist() == [False, True] + [False] * 6
    assert lengths[0].tolist() == [42, 500] + [0] * 6
    assert frames.after[0, 0, 0] > 2.4
    assert np.abs(frames.x[1, :2]).max() <= 0.05  # the new episodes
    np.testing.assert_array_equal(frames.x[1, 2:], frames.after[0, 2:])
    assert pole.t.tolist() == [4, 4, 5, 5, 5, 5, 5, 5]


def test_the_page_s_figures_are_those_of_the_results():
    assert report.rows(RESULTS["curves"]) == RESULTS["rows"]
    page = " ".join(PAGE.split("## On CartPole")[1].split())
    found = {label: returns for label, _, *returns in RESULTS["rows"]}
    recipe, typed = (found[report.NAMES[name]] for name in ("recipe", "optax"))
    for sixth, ordinal in ((2, "third"), (3, "fourth")):
        factor = float(recipe[sixth].split()[0]) / float(typed[sixth].split()[0])
        assert f"{recipe[sixth]} against {typed[sixth]}" in page
        assert f"{factor:.1f} in the {ordinal}" in page
    assert f"is {found['the recipe less the same numbers in optax.rmsprop'][5]}. With" in page
    assert f"is {found['the recipe less Adam'][2]}), and {found['the recipe less Adam'][5]} from" in page
    assert f"{np.mean(RESULTS['below']['recipe']):.0%}".replace("%", " % of the parameters") in page
    assert f"with {len(RESULTS['curves']['recipe'])} seeds" in page


def test_what_the_page_concludes_follows_from_the_results():
    sixths = {name: report.sixths(curves) for name, curves in RESULTS["curves"].items()}
    off = {other: report.mean_and_error(sixths["recipe"] - sixths[other]) for other in ("optax", "adam")}
    t_values = {other: mean / error for other, (mean, error) in off.items()}
    assert min(t_values["optax"][:4]) > 4
    assert abs(t_values["optax"][5]) < 2
    assert abs(t_values["adam"][5]) < 2
    assert t_values["adam"][1] > 2 > -2 > t_values["adam"][2]


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
def test_the_cart_moves_as_gymnasium_s_does():
    gymnasium = pytest.importorskip("gymnasium")
    env = gymnasium.make("CartPole-v1")
    x, _ = env.reset(seed=0)
    pole, ended = environment.Pole(jnp.array(x)[None], jnp.zeros(1, jnp.int32)), np.zeros(2, int)
    for t in range(2000):
        action = int(x[2] + x[3] > 0) if t % 1500 < 1100 else 1  # balances, and falls now and then
        x, _, terminated, truncated, _ = env.step(action)
        pole, fell, up = play(pole, jnp.array([action]))
        np.testing.assert_allclose(pole.x[0], x, rtol=0, atol=1e-5)
        assert (bool(fell[0]), bool(up[0])) == (terminated, truncated)
        ended += terminated, truncated
        if terminated or truncated:
            x, _ = env.reset()
        pole = environment.Pole(jnp.array(x)[None], jnp.where(fell | up, 0, pole.t))  # float32 would leave float64
    assert ended.min() > 0


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "off"), [("recipe", (0, 1e-4)), ("adam", (0, 1e-4)), ("optax", (0.5, 2))])
def test_only_optax_s_rmsprop_leaves_30_updates_of_stable_baselines3_s_a2c(name, off, tmp_path):
    """Let its agent play, episodes cut off after 12 steps, and make the updates on the same frames."""
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.env_util import make_vec_env

    envs = make_vec_env("CartPole-v1", 8, seed=0, env_kwargs={"max_episode_steps": 12})
    agent = stable_baselines3.A2C("MlpPolicy", envs, seed=0, device="cpu", use_rms_prop=name != "adam")
    begun = params = layers_of(agent.policy)
    tx, rollout, ended, train = actor_critic.OPTIMIZERS[name], [], np.zeros(2, int), agent.train
    state = tx.init(params)

    def watch(local, _):
        steps = zip(local["infos"], local["new_obs"], strict=True)
        after = np.array([info.get("terminal_observation", x) for info, x in steps])
        up = np.array([info["TimeLimit.truncated"] for info in local["infos"]])
        rollout.append((agent._last_obs.copy(), local["actions"].flatten(), after, local["dones"] & ~up, up))
        return True

    def both():
        nonlocal params, state
        x, action, after, terminated, truncated = (jnp.array(part) for part in zip(*rollout, strict=True))
        rollout.clear()
        ended[:] += [int(terminated.sum()), int(truncated.sum())]
        values = actor_critic.value(params, after)
        returns = actor_critic.n_step_returns(jnp.ones(values.shape), values, terminated, truncated)
        if off[0] == 0:
            np.testing.assert_allclose(returns, agent.rollout_buffer.returns, rtol=0, atol=1e-4)
        grads = jax.grad(actor_critic.loss_fn)(params, x, action, returns)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        train()

    agent.train = both
    agent.learn(30 * 40, callback=watch)
    theirs = layers_of(agent.policy)
    assert min(ended) > 10
    moved = largest(theirs, begun)
    assert off[0] <= largest(theirs, params) / moved <= off[1]
    if name == "recipe":
        agent.save(tmp_path / "agent.zip")
        saved = checkpoint.from_sb3(tmp_path / "agent.zip", to_jax, tx=tx)
        restored = checkpoint.restore(tx.init(saved.params), saved.moments)
        assert largest(saved.params, theirs) == 0
        for ours, goes_on in zip(*(jax.tree.leaves(optax.tree.get(s, "nu")) for s in (state, restored)), strict=True):
            np.testing.assert_allclose(goes_on, ours, rtol=1e-3, atol=1e-9)


def largest(one, other):
    """Return the largest difference of two trees."""
    return max(float(np.abs(a - b).max()) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def to_jax(weights):
    """Apply the page's function of this name."""
    page = {}
    exec(re.search(r"^def to_jax.*?(?=^```)", PAGE, re.MULTILINE | re.DOTALL)[0], page)
    return page["to_jax"](weights)


def layers_of(policy):
    return to_jax({name: p.detach().numpy().copy() for name, p in policy.named_parameters()})
