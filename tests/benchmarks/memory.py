"""What docs/memory.md quotes in one command, except for the longer trainings, which are rates.py and larger.py.

    python tests/benchmarks/memory.py [part ...] [--quick]

    bytes     bytes a parameter for every combination, counted from the arrays, here and in other libraries
    streams   what each code does to the updates on recorded gradients (streams.py)
    training  the losses of paired training runs (training.py)
    time      a step's time and its temporaries beside optax.rmsprop's; on a GPU beside the card's copy

Without a part, all of them: about half an hour on two CPU cores. Each part writes results/<part>.json; the tables of
all that is there are printed in Markdown. Other libraries are left out where they are not installed.
"""

import argparse
import json
import pathlib

import jax
import optax
import speed
import storage
import streams
import tables
import training

RESULTS = pathlib.Path(__file__).parent / "results"
PARTS = {
    "bytes": lambda quick: storage.run(),
    "streams": lambda quick: streams.run((100, 50) if quick else (2500, 1600)),
    "training": lambda quick: training.run(*(((50, 20), (2, 2)) if quick else ((1000, 600), (128, 8)))),
    "time": lambda quick: speed.run(2**18 if quick else 2**24, 3 if quick else 15),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all if none is named")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs; writes nothing")
    args = parser.parse_args()
    for part in args.parts or PARTS:
        found = PARTS[part](args.quick) | {
            "machine": f"{jax.devices()[0].device_kind}, jax {jax.__version__}, optax {optax.__version__}"
        }
        if args.quick:
            print("\n\n".join(tables.TABLES[part](found)), flush=True)
        else:
            (RESULTS / f"{part}.json").write_text(json.dumps(found, indent=1) + "\n")
    if not args.quick:
        print("\n\n".join(tables.all_tables(RESULTS)))


if __name__ == "__main__":
    main()
