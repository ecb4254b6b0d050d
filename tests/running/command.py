"""The script that pip installs as the command of the service."""

import sys

from tornado_service.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
