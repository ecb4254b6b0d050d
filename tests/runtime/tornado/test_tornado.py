"""Tornado's own tests, with the HTTP server of the runtime in place of Tornado's, on uvloop.

What is to be different stands in `differences`.
"""

import unittest
from collections import Counter

import pytest

from .differences import DIFFERENCES, SKIPPED
from .suite import SUITES, WITH_TLS, load, needs_tls

LOADED = [(suite, test) for suite in SUITES for test in load(suite)]
TESTS = {test.id().removeprefix("tornado.test."): test for _, test in LOADED if not needs_tls(test)}
DIFFERENT = {name: difference for difference in DIFFERENCES for name in difference.tests}


@pytest.mark.parametrize("name", TESTS, ids=list(TESTS))
def test_tornado(name: str) -> None:
    test = TESTS[name]
    result = unittest.TestResult()
    # The suite runs the fixtures of the class. The copy does not live longer than the test.
    unittest.TestSuite([type(test)(test._testMethodName)]).run(result)
    failures = [message for _, message in (*result.failures, *result.errors)]
    if name in DIFFERENT:
        _check_difference(name, failures)
    if failures:
        pytest.fail("\n".join(failures), pytrace=False)
    assert result.testsRun == 1
    if result.skipped:
        assert name in SKIPPED
        pytest.skip(SKIPPED[name])


def _check_difference(name: str, failures: list[str]) -> None:
    """Report that a test has failed for the known reason. It fails if it has passed."""
    difference = DIFFERENT[name]
    known = [difference.tests[name]]
    if difference.log:
        known.append(f": {difference.log}']")
    assert failures, f"{name} passes, but is listed: {difference.reason}"
    for failure in failures:
        assert any(text in failure for text in known), failure
    pytest.xfail(difference.reason)


def test_every_test_is_there() -> None:
    assert Counter(suite for suite, test in LOADED if not needs_tls(test)) == SUITES
    assert Counter(suite for suite, test in LOADED if needs_tls(test)) == WITH_TLS
    assert len(TESTS) == sum(SUITES.values())


def test_what_is_listed_is_there_once() -> None:
    listed = Counter([*SKIPPED, *(name for each in DIFFERENCES for name in each.tests)])
    assert listed.keys() <= TESTS.keys()
    assert set(listed.values()) == {1}
