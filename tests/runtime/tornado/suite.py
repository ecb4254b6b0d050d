"""Tornado's own tests, as far as they can say something about an HTTP server."""

import os
import unittest
from collections.abc import Iterator
from unittest import mock

from tornado.testing import AsyncHTTPSTestCase

SUITES = {
    "auth_test": 19,
    "circlerefs_test": 9,
    "gen_test.GenWebTest": 5,
    "http1connection_test": 7,
    "httpclient_test": 65,
    "httpserver_test": 73,
    "iostream_test.TestIOStreamWebHTTP": 7,
    "routing_test": 6,
    "security_corpus_test": 3,
    "simple_httpclient_test": 102,
    "testing_test": 21,
    "web_test": 276,
    "websocket_test": 70,
    "wsgi_test": 6,
}
"""Modules and classes below `tornado.test`, and how many of their tests can be run."""
WITH_TLS = {"httpserver_test": 5, "simple_httpclient_test": 37}
"""How many more cannot, because they need TLS: services leave it to a proxy."""


TIMEOUT = {"ASYNC_TEST_TIMEOUT": "30"}
"""The variable with the seconds that a test of Tornado may take; otherwise it is 5."""


def load(suite: str) -> Iterator[unittest.TestCase]:
    """Return the tests of a suite, without the classes that are there to be derived from."""
    with mock.patch.dict(os.environ, TIMEOUT):  # some tests read it when they are imported
        loaded = unittest.defaultTestLoader.loadTestsFromName(f"tornado.test.{suite}")
    return (test for test in _flatten(loaded) if type(test).__name__ != "AbstractBaseWrapper")


def needs_tls(test: unittest.TestCase) -> bool:
    return isinstance(test, AsyncHTTPSTestCase)


def _flatten(tests: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            yield from _flatten(test)
        else:
            yield test
