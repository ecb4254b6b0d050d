"""Reads the CPU time and the memory of a process and all its descendants from /proc (Linux)."""

import contextlib
import os
import re
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def tree(pid: int, proc: Path = PROC) -> list[int]:
    """List a process and its descendants; those that end meanwhile are left out."""
    found = [pid]
    for process in found:
        with contextlib.suppress(OSError):
            for children in (proc / str(process) / "task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found


def ticks(stat: str) -> int:
    """Return the CPU time in a /proc/<pid>/stat, with that of children that have been reaped."""
    # The name of the process, in parentheses, may contain anything.
    fields = stat.rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


def cpu_seconds(pid: int, proc: Path = PROC) -> float:
    """Return the CPU time that a process and its descendants have used."""
    total = 0
    for process in tree(pid, proc):
        with contextlib.suppress(OSError):
            total += ticks((proc / str(process) / "stat").read_text())
    return total / TICKS_PER_SECOND


def pss_bytes(pid: int, proc: Path = PROC) -> int:
    """Return the memory of a process and its descendants: shared pages are divided (PSS)."""
    total = 0
    for process in tree(pid, proc):
        with contextlib.suppress(OSError):
            text = (proc / str(process) / "smaps_rollup").read_text()
            total += sum(int(size) for size in re.findall(r"^Pss:\s+(\d+) kB$", text, re.M))
    return total * 1024
