"""The command of a service, as the template has it. A test puts the runtime beside it."""

import sys

from .runtime import Service

service = Service("early", "1.0", settings="early.runtime.settings:Settings")
main = service.main

if __name__ == "__main__":
    sys.exit(main())
