"""The script that pip installs for the command of the service `early`."""

import sys

from early.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
