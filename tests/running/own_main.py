"""Runs the application `own.py` of a test, which lies beside a copy of this file."""

import sys

from tornado_service.__main__ import service as project
from tornado_service.runtime import Service

# The processes and extensions are those that the project has.
service = Service(
    "tornado_service",
    "1.0",
    processes=project.processes,
    extensions=project.extensions,
    app="own:make_app",
)

if __name__ == "__main__":
    sys.exit(service.main())
