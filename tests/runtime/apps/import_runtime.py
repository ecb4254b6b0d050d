"""Imports the public interface, and prints what that has opened, started and loaded."""

import json
import os
import sys
import threading

import tornado.httpserver
import tornado.web  # noqa: F401


def open_files() -> list[str]:
    """Return the open file descriptors, but for that of the folder that lists them."""
    folder = "/dev/fd" if sys.platform == "darwin" else "/proc/self/fd"
    return sorted(fd for fd in os.listdir(folder) if os.path.exists(f"{folder}/{fd}"))


before = open_files()
import runtime  # noqa: E402, F401

print(
    json.dumps(
        {
            "opened": [fd for fd in open_files() if fd not in before],
            "threads": [thread.name for thread in threading.enumerate()],
            "modules": sorted(sys.modules),
        }
    )
)
