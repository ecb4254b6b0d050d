"""The sample application with a child that it does not know, as PID 1 has when it adopts orphans.

It writes the pid of the child to standard error.
"""

import os
import sys

from tests.runtime.support.sample_app import service

if __name__ == "__main__":
    orphan = os.fork()
    if orphan == 0:
        os._exit(3)
    print(orphan, file=sys.stderr)
    sys.exit(service.main())
