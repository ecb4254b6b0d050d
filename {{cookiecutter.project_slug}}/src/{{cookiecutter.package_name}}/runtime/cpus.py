"""How many processors this process may use."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def usable_cpus(root: Path = Path("/")) -> int:
    """Count the processors that affinity and the quota of the control group leave, at least 1.

    A quota of 2.5 counts as 2: more workers than processors slow each other down.
    `root` is where /proc and /sys are. Source: cgroups(7), Linux's cgroup-v2 documentation.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    cpus = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, int(min([cpus, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    try:
        groups = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            yield from _quotas_of(root / "sys/fs/cgroup", group, "cpu.max")
        elif "cpu" in controllers.split(","):
            for mount in "cpu", "cpu,cpuacct":
                files = "cpu.cfs_quota_us", "cpu.cfs_period_us"
                yield from _quotas_of(root / "sys/fs/cgroup" / mount, group, *files)


def _quotas_of(mount: Path, group: str, *files: str) -> Iterator[float]:
    # A container may see its own group as the root, and a group obeys those above it.
    innermost = Path(group.strip("/"))
    for path in (innermost, *innermost.parents):
        with suppress(OSError, ValueError):  # not there, or "max" for no quota
            texts = [(mount / path / file).read_text("utf-8") for file in files]
            quota, period = " ".join(texts).split()
            if int(quota) > 0:
                yield int(quota) / int(period)
