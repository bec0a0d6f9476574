"""The tables of docs/memory.md, and one of docs/performance.md, made from what was measured."""

import json

import numpy as np


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def storage(found):
    """Bytes of parameters, gradients, state, and of what lasts from step to step."""
    rows = []
    for name, row in found["rows"].items():
        rest = row["parameters"] + row["state"]
        rows.append([name, *(f"{row[part]:.4g}" for part in ("parameters", "gradients", "state")), f"{rest:.4g}"])
    return [table(["bytes a parameter", "parameters", "gradients", "state", "parameters + state"], rows)]


def streams(found):
    """Error, gain and extremes, one table a stream; the other fields; the periodic gradients."""
    made = []
    for stream, decays in found["streams"].items():
        names = next(iter(decays.values()))
        rows = [[name, *(_figures(decays[d][name]) for d in decays)] for name in names]
        made.append(table([f"{stream}: error / gain - 1 / extremes", *(f"decay {d}" for d in decays)], rows))
    fields = found["fields"]
    rows = [
        [name, *(f"{fields[s][name]['nrmse']:.3f} / {fields[s][name]['gain'] - 1:+.4f}" for s in fields)]
        for name in next(iter(fields.values()))
    ]
    made.append(table(["other fields: error / gain - 1", *fields], rows))
    periodic = found["periodic"]
    rows = [[name, *(f"{low:.3f} to {high:.3f}" for low, high in periodic[name].values())] for name in periodic]
    made.append(table(["used over true, periods 2 to 200", *(f"decay {d}" for d in periodic["byte"])], rows))
    return made


def _figures(row):
    low, high = row["amp"]
    high = f"{high:.3g}" if high < 1e6 else "unbounded"
    return f"{row['nrmse']:.4f} / {row['gain'] - 1:+.4f} / {low:.2g} to {high}"


def fewer_bits(found):
    """Error, gain and extremes of codes of less than a byte, one table a stream; the losses of trained digits."""
    made = []
    for stream, rows in found["streams"].items():
        decays = [decay for decay in next(iter(rows.values())) if decay != "bytes"]
        head = [f"{stream}: error / gain - 1 / extremes", "bytes", *(f"decay {d}" for d in decays)]
        cells = [[name, f"{row['bytes']:.3f}", *(_figures(row[d]) for d in decays)] for name, row in rows.items()]
        made.append(table(head, cells))
    return made + training(found["training"])


def training(found):
    made = []
    for name, task in found.items():
        if name == "machine":
            continue
        spread = {part: task["float32"][part]["seed sd"] for part in ("train", "held out")}
        head = [f"{name}: {task['seeds']} seeds, {task['steps']} steps"]
        head += [f"{part}, in seed s.d. of {spread[part]:.4f}" for part in spread]
        rows = []
        for code, parts in task["codes"].items():
            cells = [
                f"{parts[p]['mean'] / spread[p]:+.2f} ± {parts[p]['se'] / spread[p]:.2f} ({parts[p]['mean']:+.4f})"
                for p in spread
            ]
            rows.append([code, *cells])
        made.append(table(head, rows))
    return made


def against_float32(codes):
    """Return, for each code and part, the rate, the losses' geometric mean and the paired differences of their logs."""
    found = {}
    for code, parts in codes.items():
        found[code] = {}
        for part, row in parts.items():
            base = np.log(codes["float32"][part]["losses"])
            kinds = {"own": "losses", "float32's": "losses at float32's rate"}
            found[code][part] = {kind: _paired(row.get(key, row["losses"]), base) for kind, key in kinds.items()}
            found[code][part] |= {"rate": row["rate"], "seed sd": base.std(ddof=1)}
    return found


def _paired(losses, base):
    apart = np.log(losses) - base
    return {"loss": np.exp(np.log(losses).mean()), "mean": apart.mean(), "se": apart.std(ddof=1) / len(base) ** 0.5}


def rates(found):
    """Each code at its best rate, one table a task."""
    made = []
    for name, task in found.items():
        figures = against_float32(task["codes"])
        head = [f"{name}: {task['judged']} seeds, {task['steps']} steps"]
        for part, row in figures["float32"].items():
            head += [f"rate, {part}", f"{part}: loss over float32's (in seed s.d. of its log, {row['seed sd']:.2g})"]
            head += [f"at {row['rate']:.2g}"]
        made.append(table(head, _rates(figures)))
    return made


def _rates(figures):
    return [[code, *(cell for row in parts.values() for cell in _rate(code, row))] for code, parts in figures.items()]


def _rate(code, row):
    if code == "float32":
        return f"{row['rate']:.2g}", f"{row['own']['loss']:.4g}", ""
    own, same = (_percent(row[kind]) for kind in ("own", "float32's"))
    return f"{row['rate']:.2g}", f"{own} ({row['own']['mean'] / row['seed sd']:+.2f})", same


def _percent(paired):
    ratio = np.exp(paired["mean"])
    error = 100 * ratio * paired["se"]
    digits = 1 if error >= 0.5 else 2
    return f"{100 * (ratio - 1):+.{digits}f} ± {error:.{digits}f} %"


def rates_as_one(found):
    """Return the same as the head and the rows of one table."""
    head = ["task", "code"]
    for part in ("train", "held out"):
        head += [f"best rate, {part}", f"{part}: loss over float32's (in seed s.d. of its log)", "at float32's rate"]
    return head, [[name, *row] for name, task in found.items() for row in _rates(against_float32(task["codes"]))]


def speed(found):
    rows = []
    for name, row in found["rows"].items():
        temporaries = "" if row.get("temporaries") is None else f"{row['temporaries']:.4f}"
        cells = [name, f"{row['ratio']:.2f}", temporaries]
        if found["copy GB/s"] is not None:
            cells += [f"{row['ms']:.3f}", "" if row.get("GB/s") is None else f"{row['GB/s']:.0f}"]
        rows.append(cells)
    head = ["a step", "time over optax.rmsprop's", "temporaries, bytes a parameter"]
    if found["copy GB/s"] is not None:
        head += ["ms", f"GB/s, of {found['copy GB/s']:.0f} for a copy"]
    return [table(head, rows)]


def compiling(found):
    """Seconds to lower and to compile, and their sum over that of float32 and of optax.rmsprop."""
    total = {name: row["lower"] + row["compile"] for name, row in found["rows"].items()}
    rows = [
        [name, f"{row['lower']:.2f}", f"{row['compile']:.2f}"]
        + [f"{total[name] / total[base]:.1f}" for base in ("float32", "optax.rmsprop")]
        for name, row in found["rows"].items()
    ]
    head = [f"{found['leaves']} leaves of {found['shapes']} shapes: processor seconds", "lower", "compile"]
    return [table([*head, "both over float32's", "over optax.rmsprop's"], rows)]


TABLES = {"bytes": storage, "streams": streams, "fewer_bits": fewer_bits, "training": training, "time": speed}


def all_tables(folder):
    """Return the tables of every part that has been measured."""
    return [
        made
        for part, render in TABLES.items()
        if (folder / f"{part}.json").exists()
        for made in render(json.loads((folder / f"{part}.json").read_text()))
    ]
