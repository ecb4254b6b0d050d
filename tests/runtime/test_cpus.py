import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime import cpus
from runtime.cpus import usable_cpus

from .support import SERVICE, SOURCE

Files = dict[str, str]

PROCESSORS = 8
UNIFIED = "0::/app.slice/app.service"
V1 = "5:memory:/app\n4:cpu,cpuacct:/app\n1:name=systemd:/app"


class Machine:
    """Stands for the operating system and the processors that it has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.usable = set(range(PROCESSORS))
        self.all: int | None = PROCESSORS
        self._patch = monkeypatch
        self._has(sched_getaffinity=lambda pid: self.usable, cpu_count=lambda: self.all)

    def forget_affinity(self) -> None:
        """Be one that knows no affinity, such as macOS."""
        self._has(cpu_count=lambda: self.all)

    def _has(self, **functions: object) -> None:
        self._patch.setattr(cpus, "os", SimpleNamespace(**functions))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def write(root: Path, groups: str, files: Files) -> None:
    """Write what Linux says of the control groups of a process, and their files."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"{groups}\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def test_without_a_quota_all_processors_count(machine: Machine, tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == PROCESSORS


def test_affinity_counts(machine: Machine, tmp_path: Path) -> None:
    machine.usable = {1, 5, 6}
    assert usable_cpus(tmp_path) == 3


def test_where_there_is_no_affinity_the_processors_count(machine: Machine, tmp_path: Path) -> None:
    machine.forget_affinity()
    assert usable_cpus(tmp_path) == PROCESSORS
    machine.all = None
    assert usable_cpus(tmp_path) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="there is no affinity here")
def test_the_affinity_of_a_real_process_counts() -> None:
    program = f"""
import os
from {SERVICE}.cpus import usable_cpus
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
print(usable_cpus())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "1\n"
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", PROCESSORS),
        ("300000 100000", 3),
        ("3000 1000", 3),
        ("250000 100000", 2),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("1600000 100000", PROCESSORS),
        ("", PROCESSORS),
        ("nonsense", PROCESSORS),
    ],
)
def test_a_quota_counts_in_whole_processors(
    machine: Machine, tmp_path: Path, quota: str, expected: int
) -> None:
    write(tmp_path, UNIFIED, {"app.slice/app.service/cpu.max": quota})
    assert usable_cpus(tmp_path) == expected


def test_the_smaller_of_quota_and_affinity_counts(machine: Machine, tmp_path: Path) -> None:
    write(tmp_path, UNIFIED, {"app.slice/app.service/cpu.max": "300000 100000"})
    machine.usable = {0, 1}
    assert usable_cpus(tmp_path) == 2
    machine.usable = {0, 1, 2, 3}
    assert usable_cpus(tmp_path) == 3


@pytest.mark.parametrize("group", ["app.slice/app.service/", "app.slice/", ""])
def test_the_quotas_of_the_groups_above_count(machine: Machine, tmp_path: Path, group: str) -> None:
    every = {"app.slice/app.service/", "app.slice/", ""}
    files = {f"{one}cpu.max": "max 100000" for one in every}
    write(tmp_path, UNIFIED, files | {f"{group}cpu.max": "200000 100000"})
    assert usable_cpus(tmp_path) == 2


def test_the_quotas_of_other_groups_do_not_count(machine: Machine, tmp_path: Path) -> None:
    files = {"app.slice/other.service/cpu.max": "200000 100000", "other/cpu.max": "100000 100000"}
    write(tmp_path, UNIFIED, files)
    assert usable_cpus(tmp_path) == PROCESSORS


@pytest.mark.parametrize("group", ["/", "/docker/0123456789abcdef", "/../../other"])
def test_a_container_sees_its_own_group_at_the_top(
    machine: Machine, tmp_path: Path, group: str
) -> None:
    write(tmp_path, f"0::{group}", {"cpu.max": "200000 100000"})
    assert usable_cpus(tmp_path) == 2


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(
    ("quota", "expected"), [("-1", PROCESSORS), ("0", PROCESSORS), ("250000", 2), ("50000", 1)]
)
def test_the_first_version_of_control_groups_has_quotas_as_well(
    machine: Machine, tmp_path: Path, mount: str, quota: str, expected: int
) -> None:
    files = {f"{mount}/app/cpu.cfs_quota_us": quota, f"{mount}/app/cpu.cfs_period_us": "100000"}
    write(tmp_path, V1, files)
    assert usable_cpus(tmp_path) == expected


def test_the_groups_above_and_containers_count_in_the_first_version_too(
    machine: Machine, tmp_path: Path
) -> None:
    files = {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}
    write(tmp_path, V1, files)
    assert usable_cpus(tmp_path) == 3


def test_a_controller_of_another_name_is_another(machine: Machine, tmp_path: Path) -> None:
    files = {"cpu/app/cpu.cfs_quota_us": "300000", "cpu/app/cpu.cfs_period_us": "100000"}
    write(tmp_path, "4:cpuset:/app", files)
    assert usable_cpus(tmp_path) == PROCESSORS


def test_the_smallest_quota_of_both_versions_counts(machine: Machine, tmp_path: Path) -> None:
    files = {
        "cpu/app/cpu.cfs_quota_us": "400000",
        "cpu/app/cpu.cfs_period_us": "100000",
        "app.slice/cpu.max": "500000 100000",
        "app.slice/app.service/cpu.max": "600000 100000",
    }
    write(tmp_path, f"{V1}\n{UNIFIED}", files)
    assert usable_cpus(tmp_path) == 4


def test_a_group_may_have_a_colon_in_its_name(machine: Machine, tmp_path: Path) -> None:
    write(tmp_path, "0::/app:1", {"app:1/cpu.max": "200000 100000"})
    assert usable_cpus(tmp_path) == 2
