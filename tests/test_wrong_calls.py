"""Wrong calls of the rule, the dialects and the recipes are answered by a sentence of ours."""

import pytest
from kit.wrong_calls import judge, wrong

from rmsprop_optax import rmsprop

TABLE = [wrong("rmsprop", "out of range", lambda: rmsprop(1e-3, decay=1.0), ValueError, "`decay`", "[0, 1)")]


@pytest.mark.parametrize("row", TABLE)
def test_a_wrong_call_gets_a_sentence(row):
    judge(row)


def call_in_the_depths():
    [].pop()


def talk(characters):
    raise ValueError("`learning_rate`" + "x" * characters)


@pytest.mark.parametrize(
    "call", [lambda: None, call_in_the_depths, lambda: rmsprop(1e-3, decay=2.0), lambda: talk(2000)]
)
def test_the_judge_finds_what_is_not_a_sentence_of_ours(call):
    row = wrong("rmsprop", "", call, Exception, "`learning_rate`").values[0]
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        judge(row)
