"""The command of the service."""

import sys

from .runtime import Service
from .runtime.metrics import Metrics
from .runtime.workers import Prefork

service = Service(__package__, "1.0", processes=Prefork(), extensions=[Metrics()])

if __name__ == "__main__":
    sys.exit(service.main())
