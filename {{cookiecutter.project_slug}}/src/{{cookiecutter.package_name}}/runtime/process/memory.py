"""The memory of this process."""

import os
from pathlib import Path

STATM = Path("/proc/self/statm")
"""Source: proc_pid_statm(5). The second number is the resident memory, in pages."""


def resident_memory() -> int:
    """Return the resident memory of this process in bytes; 0 where the system has no /proc."""
    try:
        page_size: int = os.sysconf("SC_PAGE_SIZE")
        return int(STATM.read_bytes().split()[1]) * page_size
    except (OSError, AttributeError):  # Windows has no sysconf
        return 0
