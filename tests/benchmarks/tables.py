"""The tables of docs/memory.md, and one of docs/performance.md, made from what was measured."""

import json


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
    """Error, gain and extremes of codes of less than a byte, one table a stream."""
    made = []
    for stream, rows in found.items():
        decays = [decay for decay in next(iter(rows.values())) if decay != "bytes"]
        head = [f"{stream}: error / gain - 1 / extremes", "bytes", *(f"decay {d}" for d in decays)]
        cells = [[name, f"{row['bytes']:.3f}", *(_figures(row[d]) for d in decays)] for name, row in rows.items()]
        made.append(table(head, cells))
    return made


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
