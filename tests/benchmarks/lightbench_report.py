"""What LightBench's tasks show: tables for docs/evidence.md, and why RMSprop fails where none of its members wins."""

from lightbench_reasons import REASONS
from lightbench_tasks import DIFFICULTIES, TASKS

PUBLISHED = {  # difficulties solved, of the families whose names have not changed since
    "adversarial_gradient": (0, 0),
    "batch_size_scaling": (6, 6),
    "beale": (1, 1),
    "constrained_optimization_relu": (6, 6),
    "discontinuous_gradient": (1, 1),
    "dynamic_landscape": (6, 6),
    "gradient_delay": (6, 6),
    "layer_wise_scale": (4, 6),
    "minimax": (0, 0),
    "momentum_utilization": (6, 6),
    "parameter_scale": (0, 6),
    "plateau_navigation": (4, 4),
    "quadratic_varying_scale": (2, 6),
    "quadratic_varying_target": (3, 6),
    "rastrigin": (0, 1),
    "rosenbrock": (1, 1),
    "saddle_point": (4, 4),
    "scale_invariant": (4, 6),
    "sparse_gradient": (6, 4),
    "wide_linear": (0, 0),
}
COLUMNS = {"RMSprop": 0, "AdamW": 1}


def solved(rows):
    """Return the difficulties that a member solved, up to the first that failed."""
    return [difficulty for difficulty, row in rows.items() if row["solved"]]


def counts(done, wins):
    """Return the row of a table for what was solved in each family: the whole, by difficulty, the published part."""
    by_difficulty = [sum(difficulty in wins[name] for name in done) for difficulty in DIFFICULTIES]
    return [sum(by_difficulty), *by_difficulty, sum(len(wins[name]) for name in PUBLISHED)]


def of_members(done, members, family):
    """Return columns and rows of the first table."""
    sizes = [sum(difficulty in task.difficulties for task in TASKS.values()) for difficulty in DIFFICULTIES]
    part = sum(len(TASKS[name].difficulties) for name in PUBLISHED)
    columns = ["solved", f"of {sum(sizes)}", *(f"{d}, of {n}" for d, n in zip(DIFFICULTIES, sizes, strict=True))]
    columns += [f"of the {part} that are also published", "published"]
    rows = []
    for member in members:
        found = counts(done, {name: solved(done[name][member]) for name in done})
        published = sum(of[COLUMNS[member]] for of in PUBLISHED.values()) if member in COLUMNS else None
        rows.append([member, *found, published])
    union = {name: max((solved(done[name][member]) for member in family), key=len) for name in done}
    rows.append(["any of RMSprop's", *counts(done, union), None])
    return columns, rows


def of_families(done, members):
    """Return columns and rows of the second table: difficulties solved in each family."""
    rows = [[name, len(TASKS[name].difficulties), *(len(solved(done[name][m])) for m in members)] for name in done]
    return ["family", "difficulties", *members], rows


def of_failures(done, why):
    """Return columns and rows of the third table: what no member of the RMSprop family solved, and why."""
    rows = []
    for name in done:
        if why.get(name):
            reason = REASONS[name].format(**{key: shown(value) for key, value in why[name].items()})
            rows.append([name, ", ".join(why[name]["failed"]), reason])
    return ["family", "failed", "reason"], rows


def shown(value):
    return f"{value:.2g}" if isinstance(value, float) else value
