"""The end of a process: at once, because threads may be stuck, or as Python exits."""

import atexit
import os
import sys
import threading
import weakref
from contextlib import suppress
from typing import NoReturn

_first = threading.Lock()


def flush_stdout() -> None:
    """Flush standard output if there is one that can be written to."""
    with suppress(Exception):  # None if it was closed at the start
        sys.stdout.flush()


def exit_now(code: int) -> NoReturn:
    """Exit with a code. If two threads do it at the same time, the first one decides."""
    _first.acquire()  # never released: a later thread waits for the end
    with suppress(Exception):
        if multiprocessing := sys.modules.get("multiprocessing"):
            for process in multiprocessing.active_children():
                process.kill()
    os._exit(code)


def forget_exit_hooks() -> None:
    """In a forked process: leave to the parent what was registered there.

    For example the deletion of a temporary folder that both use. Python has no public function for
    it; from 3.13 on `multiprocessing` does the same in the processes that it forks.
    """
    atexit._clear()
    # It registers itself only once.
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    if process := sys.modules.get("multiprocessing.process"):
        process._children.clear()
    if util := sys.modules.get("multiprocessing.util"):
        util._finalizer_registry.clear()
        atexit.register(util._exit_function)


def run_exit_hooks() -> None:
    """Do what Python does before it exits: wait for threads, call what libraries registered.

    This takes as long as they want. Python has no public function for it.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
