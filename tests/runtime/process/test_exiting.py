"""What a process does at its end."""

import atexit
import os
import sys
import tempfile
import weakref
from pathlib import Path

import pytest
from runtime.process.exiting import forget_exit_hooks, run_exit_hooks


class Pool:
    """Something that a library closes at exit."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_hooks_of_the_parent_are_not_run_by_a_forked_process(tmp_path: Path) -> None:
    folder = tmp_path / "hooks"
    folder.mkdir()
    shared = tempfile.TemporaryDirectory(dir=folder)  # deleted by a finalizer
    atexit.register(Path(folder, "parent").touch)
    try:
        pid = os.fork()
        if pid == 0:
            try:
                sys.stderr = None  # what a hook prints is of no interest
                forget_exit_hooks()
                atexit.register(Path(folder, "child").touch)
                weakref.finalize(Pool, Path(folder, "finalizer").touch)
                run_exit_hooks()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
    finally:
        atexit.unregister(Path(folder, "parent").touch)
    assert {path.name for path in folder.iterdir()} == {
        Path(shared.name).name,
        "child",
        "finalizer",
    }
    shared.cleanup()
