"""The sample application with metrics: ``python -m tests.runtime.apps.measured``."""

import sys

from runtime import Service
from runtime.metrics import Metrics
from runtime.workers import Prefork

service = Service(
    "measured",
    "1.0",
    processes=Prefork(),
    extensions=[Metrics()],
    settings="runtime.settings:Settings",
    app="tests.runtime.support.sample_app:make_app",
)

if __name__ == "__main__":
    sys.exit(service.main())
