import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from runtime import cpus
from runtime.cpus import usable_cpus
from runtime.testing import SOURCE

Files = dict[str, str]

CPUS = 8
V2 = "0::/app.slice/app.service"
V1 = "5:memory:/app\n4:cpu,cpuacct:/app\n1:name=systemd:/app"


class Machine:
    """A stand-in for the operating system and its CPUs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.usable = set(range(CPUS))
        self.all: int | None = CPUS
        self._patch = monkeypatch
        self._has(sched_getaffinity=lambda pid: self.usable, cpu_count=lambda: self.all)

    def remove_affinity(self) -> None:
        """Behave like a system without affinity, such as macOS."""
        self._has(cpu_count=lambda: self.all)

    def _has(self, **functions: object) -> None:
        self._patch.setattr(cpus, "os", SimpleNamespace(**functions))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def write_cgroups(root: Path, groups: str, files: Files) -> None:
    """Write /proc/self/cgroup and the files of the control groups, as Linux shows them."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"{groups}\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def test_all_cpus_count_without_quota(machine: Machine, tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == CPUS


def test_affinity_limits_the_count(machine: Machine, tmp_path: Path) -> None:
    machine.usable = {1, 5, 6}
    assert usable_cpus(tmp_path) == 3


def test_cpu_count_is_used_without_affinity(machine: Machine, tmp_path: Path) -> None:
    machine.remove_affinity()
    assert usable_cpus(tmp_path) == CPUS
    machine.all = None
    assert usable_cpus(tmp_path) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity")
def test_affinity_of_a_real_process_limits_the_count() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.apps.one_cpu"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ["PYTHONPATH"]])},
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
        ("max 100000", CPUS),
        ("300000 100000", 3),
        ("3000 1000", 3),
        ("250000 100000", 2),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("1600000 100000", CPUS),
        ("", CPUS),
        ("nonsense", CPUS),
    ],
)
def test_quota_is_rounded_down_to_whole_cpus(
    machine: Machine, tmp_path: Path, quota: str, expected: int
) -> None:
    write_cgroups(tmp_path, V2, {"app.slice/app.service/cpu.max": quota})
    assert usable_cpus(tmp_path) == expected


def test_smaller_of_quota_and_affinity_counts(machine: Machine, tmp_path: Path) -> None:
    write_cgroups(tmp_path, V2, {"app.slice/app.service/cpu.max": "300000 100000"})
    machine.usable = {0, 1}
    assert usable_cpus(tmp_path) == 2
    machine.usable = {0, 1, 2, 3}
    assert usable_cpus(tmp_path) == 3


@pytest.mark.parametrize("group", ["app.slice/app.service/", "app.slice/", ""])
def test_quotas_of_parent_groups_count(machine: Machine, tmp_path: Path, group: str) -> None:
    every = {"app.slice/app.service/", "app.slice/", ""}
    files = {f"{one}cpu.max": "max 100000" for one in every}
    write_cgroups(tmp_path, V2, files | {f"{group}cpu.max": "200000 100000"})
    assert usable_cpus(tmp_path) == 2


def test_quotas_of_other_groups_do_not_count(machine: Machine, tmp_path: Path) -> None:
    files = {"app.slice/other.service/cpu.max": "200000 100000", "other/cpu.max": "100000 100000"}
    write_cgroups(tmp_path, V2, files)
    assert usable_cpus(tmp_path) == CPUS


@pytest.mark.parametrize("group", ["/", "/docker/0123456789abcdef", "/../../other"])
def test_container_sees_its_own_group_as_the_root(
    machine: Machine, tmp_path: Path, group: str
) -> None:
    write_cgroups(tmp_path, f"0::{group}", {"cpu.max": "200000 100000"})
    assert usable_cpus(tmp_path) == 2


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(
    ("quota", "expected"), [("-1", CPUS), ("0", CPUS), ("250000", 2), ("50000", 1)]
)
def test_cgroup_v1_quota_counts(
    machine: Machine, tmp_path: Path, mount: str, quota: str, expected: int
) -> None:
    files = {f"{mount}/app/cpu.cfs_quota_us": quota, f"{mount}/app/cpu.cfs_period_us": "100000"}
    write_cgroups(tmp_path, V1, files)
    assert usable_cpus(tmp_path) == expected


def test_cgroup_v1_quotas_of_parent_groups_count(machine: Machine, tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}
    write_cgroups(tmp_path, V1, files)
    assert usable_cpus(tmp_path) == 3


def test_cgroup_v1_controller_cpuset_is_ignored(machine: Machine, tmp_path: Path) -> None:
    files = {"cpu/app/cpu.cfs_quota_us": "300000", "cpu/app/cpu.cfs_period_us": "100000"}
    write_cgroups(tmp_path, "4:cpuset:/app", files)
    assert usable_cpus(tmp_path) == CPUS


def test_smallest_quota_of_both_cgroup_versions_counts(machine: Machine, tmp_path: Path) -> None:
    files = {
        "cpu/app/cpu.cfs_quota_us": "400000",
        "cpu/app/cpu.cfs_period_us": "100000",
        "app.slice/cpu.max": "500000 100000",
        "app.slice/app.service/cpu.max": "600000 100000",
    }
    write_cgroups(tmp_path, f"{V1}\n{V2}", files)
    assert usable_cpus(tmp_path) == 4


def test_group_name_may_contain_a_colon(machine: Machine, tmp_path: Path) -> None:
    write_cgroups(tmp_path, "0::/app:1", {"app:1/cpu.max": "200000 100000"})
    assert usable_cpus(tmp_path) == 2
