"""The command of the service."""

import sys

from . import __version__
from .runtime import Service
from .runtime.metrics import Metrics
from .runtime.workers import Prefork

service = Service(__package__, __version__, processes=Prefork(), extensions=[Metrics()])

if __name__ == "__main__":
    sys.exit(service.main())
