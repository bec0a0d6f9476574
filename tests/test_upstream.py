"""The tests that other libraries wrote for their own rmsprop pass with ours in its place: pytest -m upstream."""

import re
import xml.etree.ElementTree as ET

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


REPORT = """<testsuites><testsuite>
<testcase classname="a.B" name="good"/>
<testcase classname="a.B" name="bad"><failure message="1 is not 2">...</failure></testcase>
<testcase classname="a.B" name="broken"><error message="no fixture">...</error></testcase>
<testcase classname="a.B" name="left"><skipped message="Only runs on cuda">...</skipped></testcase>
</testsuite></testsuites>"""


def test_a_failure_an_error_and_a_skip_are_told_with_their_reasons():
    found = suites.outcome(ET.fromstring(REPORT))
    assert found == (1, {"B::bad": "1 is not 2", "B::broken": "no fixture"}, {"B::left": "Only runs on cuda"})
    assert suites.reasons(found) == "1: 1 is not 2; 1: no fixture; 1: Only runs on cuda"
