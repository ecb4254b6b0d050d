"""The end of a process, without what Python does at exit: threads may be stuck."""

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

_first = threading.Lock()


def exit_now(code: int) -> NoReturn:
    """Exit with a code. If two threads do it at the same time, the first one decides."""
    _first.acquire()  # never released: a later thread waits for the end
    with suppress(Exception):
        if multiprocessing := sys.modules.get("multiprocessing"):
            for process in multiprocessing.active_children():
                process.kill()
    os._exit(code)


def run_exit_hooks() -> None:
    """Do what Python does before it exits: wait for threads, call what libraries registered.

    This takes as long as they want. Python has no public function for it; `multiprocessing` does
    the same in the processes that it forks.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
