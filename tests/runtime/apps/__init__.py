"""Small services that tests start as processes."""

MEASURED_APP = "tests.runtime.apps.measured"
TRACED_APP = "tests.runtime.apps.traced"
