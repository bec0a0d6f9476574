"""RMSprop in NumPy float64, written from the published rules and the frameworks' kernels, never from our code.

One step, in this order: negate the gradient to maximize, clip it, decay the weights, average, divide, add momentum,
move.
The switches are those under "canonical" in the recorded trajectories.
"""

import numpy as np

DEFAULTS = {
    "decay": 0.9, "eps": 1e-8, "eps_mode": "inside", "acc_init": 0.0, "centered": False, "bias_correction": False,
    "momentum": 0.0, "average_momentum": False, "momentum_on": "update", "lr_in_momentum": True, "nesterov": "none",
    "weight_decay": 0.0, "wd_mode": "l2", "decays": None, "maximize": False, "clip": None, "weight_clip": None,
    "complex": "none", "caution": False, "max_lr": None,
}  # fmt: skip


def trajectory(switches, params, grads, learning_rates):
    """Return the parameters after each step, and the moments `nu`, `mu`, `mom` after the last."""
    c = DEFAULTS | switches
    real_pair = c["complex"] == "real_pair"
    enter = _as_pairs if real_pair else np.asarray
    leave = _from_pairs if real_pair else np.asarray
    p = {name: enter(x) for name, x in params.items()}
    nu = {name: np.full(x.shape, c["acc_init"], np.float64) for name, x in p.items()}
    mu = {name: np.zeros_like(x) for name, x in p.items()}
    mom = {name: np.zeros_like(x) for name, x in p.items()}
    out = []
    for t, (lr, g) in enumerate(zip(learning_rates, grads, strict=True), start=1):
        g = {name: (-1 if c["maximize"] else 1) * enter(g[name]) for name in p}
        g = _clip(c["clip"], g, p)
        for name in p:
            _step(c, t, lr, name, g[name], p, nu, mu, mom)
        out.append({name: leave(x) for name, x in p.items()})
    moments = {"nu": nu, "mu": mu, "mom": mom}
    return out, {key: {name: leave(x) for name, x in tree.items()} for key, tree in moments.items()}


def _step(c, t, lr, name, g, p, nu, mu, mom):
    wd = c["weight_decay"] if c["decays"] is None or name in c["decays"] else 0.0
    if c["wd_mode"] == "l2":
        g = g + wd * p[name]
    elif c["wd_mode"] == "decoupled":
        p[name] = p[name] * (1 - lr * wd)
    else:  # decoupled_corrected
        p[name] = p[name] * (1 - lr**2 / c["max_lr"] * wd)
    if c["clip"] and c["clip"][0] == "value_after_wd":
        g = np.clip(g, -c["clip"][1], c["clip"][1])

    d = c["decay"]
    nu[name] = d * nu[name] + (1 - d) * np.abs(g) ** 2
    mu[name] = d * mu[name] + (1 - d) * g
    v, m = nu[name], mu[name]
    if c["bias_correction"]:
        v, m = v / (1 - d**t), m / (1 - d**t)
    if c["centered"]:
        v = v - np.abs(m) ** 2
        v = v if c["eps_mode"] == "inside_neg" else np.maximum(v, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        root = {
            "inside": lambda: np.sqrt(v + c["eps"]),
            "inside_neg": lambda: np.sqrt(v - c["eps"]),
            "outside": lambda: np.sqrt(v) + c["eps"],
        }[c["eps_mode"]]()
        if c["momentum_on"] == "grad":
            g = mom[name] = c["momentum"] * mom[name] + g
        step = (lr if c["lr_in_momentum"] else 1.0) * g / root
    if c["average_momentum"]:
        m, before = c["momentum"], step
        mom[name] = m * mom[name] + (1 - m) * before
        step = (m * mom[name] + (1 - m) * before if c["nesterov"] == "trace" else mom[name]) / (1 - m**t)
    elif c["momentum_on"] == "update":
        mom[name] = c["momentum"] * mom[name] + step
        step = c["momentum"] * mom[name] + step if c["nesterov"] == "trace" else mom[name]
    if c["caution"]:
        mask = (step * g > 0).astype(np.float64)
        step = step * mask / max(mask.mean(), 1e-3) if mask.size else step
    p[name] = p[name] - (1.0 if c["lr_in_momentum"] else lr) * step
    if c["weight_clip"]:
        p[name] = np.clip(p[name], -c["weight_clip"], c["weight_clip"])


def _clip(clip, g, p):
    kind, limit, *floor = clip or (None, None)
    if kind == "adaptive":  # the norm of each gradient, to a share of its parameter's
        limits = {name: limit * max(*floor, np.sqrt((x**2).sum())) for name, x in p.items()}
        return {name: x / max(1.0, np.sqrt((x**2).sum()) / limits[name]) for name, x in g.items()}
    if kind == "value":
        return {name: np.clip(x, -limit, limit) for name, x in g.items()}
    if kind == "norm":
        return {name: x * min(1.0, limit / max(np.sqrt((x**2).sum()), 1e-300)) for name, x in g.items()}
    if kind == "global_norm":
        norm = np.sqrt(sum((x**2).sum() for x in g.values()))
        return {name: x * min(1.0, limit / max(norm, 1e-300)) for name, x in g.items()}
    return g


def _as_pairs(x):
    x = np.asarray(x)
    return np.stack([x.real, x.imag], -1) if np.iscomplexobj(x) else x


def _from_pairs(x):
    return x[..., 0] + 1j * x[..., 1]
