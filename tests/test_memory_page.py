"""The tables of docs/memory.md, and of compiling in docs/performance.md, are those that the benchmarks measured."""

import json
import math
import pathlib
import re

import pytest

from rmsprop_optax import compression

ROOT = pathlib.Path(__file__).parent.parent
BENCHMARKS = ROOT / "tests" / "benchmarks"
EVIDENCE = ROOT / "docs" / "evidence"


@pytest.mark.parametrize("part", ["bytes", "streams", "fewer_bits", "training", "time"])
def test_the_page_shows_what_was_measured(part, benchmark_modules):
    import tables

    page = (ROOT / "docs" / "memory.md").read_text()
    made = tables.TABLES[part](json.loads((BENCHMARKS / "results" / f"{part}.json").read_text()))
    assert made
    for table in made:
        assert f"\n\n{table}\n\n" in page


def test_the_page_of_steps_shows_what_compiling_took(benchmark_modules):
    import tables

    (table,) = tables.compiling(json.loads((BENCHMARKS / "results" / "compile.json").read_text()))
    assert f"\n\n{table}\n\n" in (ROOT / "docs" / "performance.md").read_text()


def test_the_page_shows_each_code_at_its_own_best_rate(benchmark_modules):
    import tables

    found = json.loads((EVIDENCE / "codes_at_their_best_rate.json").read_text())
    for table in tables.rates(found["tasks"]):
        assert f"\n\n{table}\n\n" in (ROOT / "docs" / "memory.md").read_text()
    assert (found["columns"], found["rows"]) == tables.rates_as_one(found["tasks"])


def test_each_rate_has_the_lowest_loss_on_other_seeds_between_two_that_are_worse():
    for task in json.loads((EVIDENCE / "codes_at_their_best_rate.json").read_text())["tasks"].values():
        assert set(task["codes"]) > {"float32", "byte"}
        for code, parts in task["codes"].items():
            for part, row in parts.items():
                rates, losses = zip(*row["choice"], strict=True)
                best = losses.index(min(losses))
                assert row["rate"] == rates[best] == pytest.approx(1e-3 * 2 ** (row["half octaves"] / 2)), (code, part)
                assert 0 < best < len(rates) - 1, (code, part)
                assert len(row["losses"]) == task["judged"]


def test_what_the_page_says_of_codes_at_their_best_rates_follows_from_their_losses(benchmark_modules):
    import tables

    found = json.loads((EVIDENCE / "codes_at_their_best_rate.json").read_text())["tasks"]
    digits, manual = (tables.against_float32(found[task]["codes"]) for task in ("digits", "manual"))
    choice = dict(found["digits"]["codes"]["float32"]["train"]["choice"])

    def figure(task, code, part, kind="own"):
        return tables._percent(task[code][part][kind])

    low, same = "byte, bfloat16 weights + 8", "float32's"
    nearest = "byte, bfloat16 weights rounded to nearest"
    both = {code: [figure(digits, code, "held out", kind) for kind in ("own", same)] for code in ("byte", low)}
    worst = {
        (task, code): max(abs(row["own"]["mean"] / row["own"]["se"]) for row in figures[code].values())
        for task, figures in (("digits", digits), ("manual", manual))
        for code in ("byte", "bfloat16", "nibble")
    }
    said = [
        f"the digits at 0.001 is {choice[0.001] / min(choice.values()):.0f} times its lowest",
        f"the linear code's training loss on the digits is {figure(digits, 'linear', 'train')} from float32's",
        f"its held-out loss is {figure(digits, 'linear', 'held out')} from float32's",
        f"its training loss is {figure(manual, 'linear', 'train')} from float32's",
        f"and {figure(manual, 'linear', 'held out')} held out",
        f"held out, the byte is {both['byte'][0]} from float32 at 0.004",
        f"and {both['byte'][1]} at float32's rate; with bfloat16 weights + 8 bits, {both[low][0]} and {both[low][1]}.",
        f"there the byte is {figure(manual, 'byte', 'train')} from float32 on the training part",
        f"and {figure(manual, 'byte', 'held out')} held out",
        f"+ 8 bits it is {figure(manual, low, 'held out')} held out at the rate that two seeds preferred",
        f"{figure(manual, low, 'held out', same)} at float32's. Half a byte",
        f"are {figure(manual, nearest, 'held out')} held out on the manual, the best there",
        f"manual: byte at most {worst['manual', 'byte']:.1f} s.e., bfloat16 {worst['manual', 'bfloat16']:.1f}",
        f"digits: byte {worst['digits', 'byte']:.1f} s.e. above held out",
        f"at float32's rate), bfloat16 {worst['digits', 'bfloat16']:.1f}, nibble",
        f"nibble {worst['digits', 'nibble']:.1f} (missed;",
        f"bfloat16 {worst['manual', 'bfloat16']:.1f}, nibble {worst['manual', 'nibble']:.1f}; digits",
    ]
    linear = dict(found["digits"]["codes"]["linear"]["train"]["choice"])
    assert all(linear[rate] < choice[rate] for rate in choice)
    apart = {code: row["train"]["own"] for code, row in digits.items() if code != "float32"}
    beyond = [code for code, paired in apart.items() if abs(paired["mean"]) > 2 * paired["se"]]
    assert beyond == ["linear", nearest, "TurboAdam"]
    assert nearest == max(digits, key=lambda code: digits[code]["train"]["own"]["mean"])
    assert nearest == min(manual, key=lambda code: manual[code]["held out"]["own"]["mean"])
    assert all(row[part]["rate"] > 1e-3 for task in (digits, manual) for row in task.values() for part in row)
    page = " ".join((ROOT / "docs" / "memory.md").read_text().split())
    assert [sentence for sentence in said if sentence not in page] == []


def test_what_the_page_says_of_half_a_byte_and_of_turboadam_s_code_follows_from_their_losses(benchmark_modules):
    import numpy as np
    import tables

    found = json.loads((EVIDENCE / "codes_at_their_best_rate.json").read_text())["tasks"]
    digits, manual = (tables.against_float32(found[task]["codes"]) for task in ("digits", "manual"))
    streams = json.loads((BENCHMARKS / "results" / "streams.json").read_text())["streams"]
    base = found["digits"]["codes"]["float32"]["held out"]
    there = tables._paired(base["losses at other rates"]["0.004"], np.log(base["losses"]))
    gains = [100 * (row["TurboAdam"]["gain"] - 1) for row in streams["digits"].values()]
    low = "nibble, bfloat16 weights + 8"

    def figures(task, code):
        return [tables._percent(task[code][part]["own"]) for part in ("train", "held out")]

    half, with_low = figures(digits, "nibble"), figures(digits, low)
    at_base = tables._percent(digits["nibble"]["held out"]["float32's"])
    said = [
        f"its updates are {min(gains):.0f} to {max(gains):.0f} % larger than float32's",
        "loss there is {} from float32's, and {} held out".format(*figures(digits, "TurboAdam")),
        "on the manual it is {} and {}.".format(*figures(manual, "TurboAdam")),
        f"Float32 itself is {tables._percent(there)} at 0.004.",
        "is {} from float32 on the manual's training part and {} held out".format(*figures(manual, "nibble")),
        "with bfloat16 weights + 8 bits, {} and {}. On the digits".format(*figures(manual, low)),
        f"On the digits it is {half[0]} on the training part. Held out it is {half[1]} at 0.004,",
        f"of which {100 * np.expm1(there['mean']):.1f} are the rate's, and {at_base} at float32's rate;",
        f"with bfloat16 weights + 8 bits, which preferred float32's rate, {with_low[1]}.",
    ]
    assert digits[low]["held out"]["rate"] == digits["float32"]["held out"]["rate"]
    assert digits["nibble"]["held out"]["rate"] == pytest.approx(4e-3)
    page = " ".join((ROOT / "docs" / "memory.md").read_text().split())
    assert [sentence for sentence in said if sentence not in page] == []


def test_a_rate_is_sought_until_both_parts_have_a_best_between_two_that_are_worse(benchmark_modules):
    import rates

    def losses(half_octaves):
        asked.extend(half_octaves)
        return [((i - 3) ** 2, float("nan") if i > 0 else (i + 2) ** 2) for i in half_octaves]

    asked = []
    found = rates.choose(losses)
    assert (rates.best_of(found, 0), rates.best_of(found, 1)) == (3, -2)
    assert sorted(asked) == sorted(found) == list(range(-4, 6))


def test_the_page_shows_the_larger_transformer(benchmark_modules):
    import larger
    import tables

    found = json.loads((EVIDENCE / "larger_transformer.json").read_text())
    done = [(run["optimizer"], run["seed"]) for run in found["runs"]]
    assert done == [(name, seed) for seed in larger.SEEDS for name in larger.NAMES]
    assert found["rows"] == larger.rows(larger.summary(found["runs"]))
    assert f"\n\n{tables.table(found['columns'], found['rows'])}\n\n" in (ROOT / "docs" / "memory.md").read_text()
    assert found["rate"] == min(found["sweep"], key=lambda run: run["held out"])["rate"]
    assert larger.OTHER_SEED not in larger.SEEDS


def test_what_the_page_says_of_the_larger_transformer_follows_from_its_losses(benchmark_modules):
    import larger

    found = json.loads((EVIDENCE / "larger_transformer.json").read_text())
    figures = larger.summary(found["runs"])
    byte, low = (figures[name] for name in larger.NAMES[1:])
    errors = {
        (i, part): row[part]["difference"] / row[part]["se"]
        for i, row in enumerate((byte, low))
        for part in byte
        if part != "bytes"
    }
    most = {
        part: max(row[part]["difference"] + 4.3 * row[part]["se"] for row in (byte, low))
        for part in ("train", "held out")
    }
    said = [
        f"the byte is {-errors[0, 'held out']:.1f} standard errors below",
        f"with bfloat16 weights + 8 bits {errors[1, 'held out']:.1f} above",
        f"they are {-errors[0, 'train']:.1f} and {-errors[1, 'train']:.1f} below",
        f"a held-out loss more than {most['held out']:.3f} above",
        f"which is {100 * most['held out'] / figures['float32']['held out']['mean']:.1f} %",
        f"a training loss more than {most['train']:.3f} above",
        f"{found['runs'][0]['parameters']:,} parameters",
        f"{found['text']['words']:,} words in all",
        f"{found['model']['steps']:,} steps of {found['model']['rows'] * found['model']['length']} words",
        f"{found['model']['tokens'] / found['runs'][0]['parameters']:.1f} words a parameter",
        f"took {sum(run['seconds'] for run in found['runs']) / 60:.0f} minutes",
        f"the choice of the rate {sum(run['seconds'] for run in found['sweep']) / 60:.0f}:",
    ]
    page = " ".join((ROOT / "docs" / "memory.md").read_text().split())
    assert [sentence for sentence in said if sentence not in page] == []


def test_the_larger_transformer_s_bytes_are_those_of_its_arrays_now(benchmark_modules):
    import jax
    import jax.numpy as jnp
    import larger
    import tasks
    import training

    found = json.loads((EVIDENCE / "larger_transformer.json").read_text())
    model = {key: found["model"][key] for key in larger.MODEL}
    task = tasks.transformer(**model, text=lambda: "any text of some words " * 100)
    for name in larger.NAMES:
        make, low = training.optimizers()[name]
        start, _, _ = training.pieces(task, make(1e-3), low)
        arrays = [x for x in jax.tree.leaves(jax.eval_shape(start, jnp.int32(0))) if x.ndim]
        count = sum(x.size * x.dtype.itemsize for x in arrays)
        assert {run["bytes"] for run in found["runs"] if run["optimizer"] == name} == {count}, name


@pytest.mark.full
@pytest.mark.parametrize("task", ["digits", "manual"])
def test_a_code_is_trained_at_the_rates_it_is_given(task, benchmark_modules, monkeypatch):
    import rates
    import training

    chosen = {name: training.optimizers()[name] for name in ("float32", "byte, bfloat16 weights + 8")}
    monkeypatch.setattr(training, "optimizers", lambda: chosen)
    found = {}
    rates.run(task, rates.SETTINGS[task] | rates.QUICK, found, lambda: None)
    for parts in found.values():
        for row in parts.values():
            losses = [loss for _, loss in row["choice"]]
            assert len(set(losses)) == len(losses) >= 4
            assert max(row["losses"]) < max(losses)


@pytest.mark.full
def test_the_larger_transformer_learns_with_each_optimizer_and_goes_on_from_a_file(benchmark_modules):
    import larger

    model, saved = larger.MODEL | {"width": 16, "layers": 1, "length": 8}, []
    found = larger.run(model, 40, lambda found: saved.append(json.loads(json.dumps(found))), {})
    assert max(run["train"] for run in found["runs"]) < math.log(model["size"]) - 1  # that of words at random, less 1
    again = larger.run(model, 40, saved.append, saved[-2])
    assert again["runs"][:-1] == found["runs"][:-1]
    assert again["runs"][-1]["train"] == pytest.approx(found["runs"][-1]["train"])


def test_the_page_says_what_each_public_codec_is_for():
    page = (ROOT / "docs" / "memory.md").read_text()
    table = page.partition("| what | codec | bytes |")[2].partition("\n\n")[0]
    public = {name for name in compression.__all__ if hasattr(getattr(compression, name), "encode")}
    assert set(re.findall(r"`(\w+)\(", table)) - {"rmsprop"} == public - {"Codec", "ScaledCodec"}


def test_bytes_counted_now_are_those_of_the_page(benchmark_modules):
    import storage

    measured = json.loads((BENCHMARKS / "results" / "bytes.json").read_text())["rows"]
    for name, (tx, low) in storage.ours().items():
        assert storage._row(*storage._arrays(tx, low)) == measured[name], name


def test_the_codes_written_anew_are_the_libraries_own(benchmark_modules):
    import codes
    import jax.numpy as jnp
    import numpy as np

    nu = np.random.default_rng(0).lognormal(sigma=4, size=(64, 32)).astype(np.float32) * 1e-6
    flash = pytest.importorskip("flashoptim_jax.quantization")
    theirs = flash.dequantize_variance(flash.quantize_variance(jnp.asarray(nu)))
    np.testing.assert_allclose(codes.CODES["FlashOptim"].through(jnp.asarray(nu), 0, 0), theirs, rtol=1e-5)
    turbo = pytest.importorskip("turboadam.quantize")
    functional = pytest.importorskip("bitsandbytes.functional")
    shipped = functional.create_dynamic_map(signed=True).numpy()
    np.testing.assert_allclose(codes.dynamic_map(), shipped[shipped >= 0], rtol=1e-6)
    tensor = pytest.importorskip("torch").from_numpy(nu.ravel())
    packed = [turbo.quantize_logscale(tensor, 4, 128, stochastic_round=True, seed=seed) for seed in range(64)]
    theirs = np.stack([turbo.dequantize_logscale(*both, 4, 128).numpy() for both in packed])
    ours = np.stack([np.ravel(codes.CODES["TurboAdam"].through(jnp.asarray(nu), 0, seed)) for seed in range(64)])
    for end in (np.min, np.max):  # of the two levels that an element is rounded to
        assert (np.abs(np.log(end(ours, 0) / end(theirs, 0))) < 1e-3).mean() > 0.85  # rare ones may not have occurred
    np.testing.assert_allclose(np.mean(ours, 0).mean(), np.mean(theirs, 0).mean(), rtol=0.05)
