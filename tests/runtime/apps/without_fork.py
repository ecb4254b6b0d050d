"""The sample application on an operating system that cannot fork, such as Windows."""

import os
import sys

del os.fork
for name in "fcntl", "pwd", "resource":
    sys.modules[name] = None  # type: ignore[assignment]  # importing it fails

from tests.runtime.support.sample_app import service  # noqa: E402

if __name__ == "__main__":
    sys.exit(service.main())
