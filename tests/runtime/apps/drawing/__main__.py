"""The command of the service."""

import sys

from runtime import Service
from runtime.workers import Prefork

service = Service(
    "tests.runtime.apps.drawing",
    "1.0",
    processes=Prefork(import_after_fork=["seeded_library"]),
    settings="runtime.settings:Settings",
)

if __name__ == "__main__":
    sys.exit(service.main())
