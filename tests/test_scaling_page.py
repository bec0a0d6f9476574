"""docs/scaling.md: its tables are those of the committed results, and of the shapes of the models."""

import math
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "scaling.md").read_text()
TABLES = dict(re.findall(r"<!-- (\w+) -->\n\n(.*?)\n\n<!-- /\1 -->", PAGE, re.DOTALL))


@pytest.fixture
def at_scale(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "ahead_of_time")
    import at_scale

    yield at_scale
    for name in ("at_scale", "compiled"):
        sys.modules.pop(name)


def test_the_table_of_what_was_compiled_is_that_of_the_results(at_scale):
    assert TABLES["results"] == at_scale.table_of_results()


@pytest.mark.full
def test_the_table_of_models_is_counted_from_their_shapes(at_scale):
    assert TABLES["models"] == at_scale.table_of_models()


def test_the_models_have_as_many_parameters_as_their_names_say(at_scale):
    for name, model in at_scale.MODELS.items():
        sizes = [shape for node in at_scale.shapes(model).values() for shape in leaves(node)]
        assert len(sizes) == {"8B": 291, "70B": 723, "405B": 1137}[name]
        assert round(sum(sizes) / 1e9) == {"8B": 8, "70B": 71, "405B": 406}[name]


def leaves(node):
    """Return the sizes of the parameters in a layer, or of one parameter."""
    shapes = [shape for shape, _ in node.values()] if isinstance(node, dict) else [node[0]]
    return [math.prod(shape) for shape in shapes]


def test_the_traffic_of_a_program_is_counted_without_the_chip_s_own_memory(at_scale):
    program = """ENTRY %main (a: f32[8], b: u8[16]) -> f32[8] {
  %a = f32[8]{0:T(8)} parameter(0)
  %b = u8[16]{0} parameter(1)
  %copy-start = (f32[8]{0:S(1)}, f32[8]{0}, u32[]) copy-start(%a)
  %copy-done = f32[8]{0:S(1)} copy-done(%copy-start)
  %slice-start = ((u8[16]{0}), u8[4]{0:S(1)}, s32[]) slice-start(%b)
  %slice-done = u8[4]{0:S(1)} slice-done(%slice-start)
  ROOT %fusion = f32[8]{0} fusion(%copy-done, %slice-done, %b), kind=kLoop
}
"""
    assert at_scale.traffic(program) == 32 + 4 + (32 + 16)
