"""The tests that other libraries wrote for their own rmsprop pass with ours in its place: pytest -m upstream."""

import re

import pytest
import suites


@pytest.mark.upstream
@pytest.mark.parametrize("name", [name for name in suites.SUITES if suites.SUITES[name].plugin])
def test_another_library_s_own_tests_pass(name):
    if missing := suites.missing(name):
        pytest.skip(f"needs {' '.join(missing)}")
    found = suites.run(name)
    assert found.failed == {}
    assert all(re.search("cuda|GPU", why) for why in found.skipped.values()), found.skipped
    assert found.passed >= suites.SUITES[name].tests
