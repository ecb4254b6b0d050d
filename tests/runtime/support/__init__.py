"""What several tests of the runtime share."""

SAMPLE_APP = "tests.runtime.support.sample_app"
"""The module of the service that most tests start."""
