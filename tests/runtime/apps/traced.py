"""The sample application with traces: ``python -m tests.runtime.apps.traced``."""

import sys

from runtime import Service
from runtime.tracing import Tracing
from runtime.workers import Prefork

service = Service(
    "traced",
    "1.0",
    processes=Prefork(),
    extensions=[Tracing()],
    settings="runtime.settings:Settings",
    app="tests.runtime.support.sample_app:make_app",
)

if __name__ == "__main__":
    sys.exit(service.main())
