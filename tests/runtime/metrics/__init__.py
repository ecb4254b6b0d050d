"""Tests of metrics."""

MEASURED_APP = "tests.runtime.apps.measured"
"""The module of a service with metrics."""
