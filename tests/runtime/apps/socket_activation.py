"""Starts the sample application as systemd does: with an open socket for each port.

It writes the public port to standard error.
"""

import fcntl
import os
import socket
import sys

from tests.runtime.support import SAMPLE_APP

SD_LISTEN_FDS_START = 3
FREE_FDS_START = 100

public, admin = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
print(public.getsockname()[1], file=sys.stderr)
os.environ["APP_ADMIN_PORT"] = str(admin.getsockname()[1])
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), "2"
# First out of the way: one of them may be descriptor 3 or 4 itself.
copies = [fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, FREE_FDS_START) for sock in (public, admin)]
for fd, copy in enumerate(copies, SD_LISTEN_FDS_START):
    os.dup2(copy, fd)
os.execv(sys.executable, [sys.executable, "-m", SAMPLE_APP])
