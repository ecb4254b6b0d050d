"""Runs the application `own.py` of a test, which lies beside a copy of this file."""

import sys

from tornado_service.runtime import Service
from tornado_service.runtime.metrics import Metrics
from tornado_service.runtime.workers import Prefork

service = Service(
    "own",
    "1.0",
    processes=Prefork(),
    extensions=[Metrics()],
    settings="tornado_service.settings:Settings",
    app="own:make_app",
)

if __name__ == "__main__":
    sys.exit(service.main())
