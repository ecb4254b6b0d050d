"""Files of the runtime that were changed by hand are found and named."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from runtime.checksums import (
    RUNTIME,
    SUMS,
    changed_by_hand,
    checksums,
    delivered,
    differences,
    main,
)

PRINTED_BY_SHA256SUM = """\
1121cfccd5913f0a63fec40a6ffd44ea64f9dc135c66634ba001d10bcf4302a2  VERSION
e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  http/__init__.py
"""
"""For a file with the line 3, and an empty one."""


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """A copy of the runtime as it is delivered."""
    copy = tmp_path / "runtime"
    shutil.copytree(RUNTIME, copy, ignore=shutil.ignore_patterns("__pycache__", SUMS))
    lines = [f"{digest}  {path}\n" for path, digest in checksums(copy).items()]
    (copy / SUMS).write_text("".join(lines))
    return copy


def test_checksums_are_those_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "http").mkdir()
    (tmp_path / "http" / "__init__.py").touch()
    (tmp_path / "VERSION").write_bytes(b"3\n")
    (tmp_path / SUMS).write_text(PRINTED_BY_SHA256SUM)
    assert list(delivered(tmp_path)) == ["VERSION", "http/__init__.py"]
    assert checksums(tmp_path) == delivered(tmp_path)
    assert changed_by_hand(tmp_path) == []


def test_changed_file_is_found(runtime: Path) -> None:
    with (runtime / "http" / "body.py").open("a") as file:
        file.write("# changed\n")
    assert changed_by_hand(runtime) == ["http/body.py"]


def test_added_and_removed_files_are_found(runtime: Path) -> None:
    (runtime / "http" / "own.py").touch()
    (runtime / "own").mkdir()
    (runtime / "own" / "room.py").touch()
    (runtime / "errors.py").unlink()
    (runtime / "logs" / "writer.py").unlink()
    assert changed_by_hand(runtime) == ["errors.py", "http/own.py", "logs/writer.py", "own/room.py"]


def test_missing_room_is_not_a_difference(runtime: Path) -> None:
    shutil.rmtree(runtime / "tracing")
    assert changed_by_hand(runtime) == []


def test_bytecode_is_ignored(runtime: Path) -> None:
    for folder in runtime, runtime / "http":
        (folder / "__pycache__").mkdir()
        (folder / "__pycache__" / "body.cpython-311.pyc").touch()
    assert changed_by_hand(runtime) == []


def test_unreadable_file_is_a_difference_and_stops_nothing(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_bytes = Path.read_bytes

    def read_if_permitted(path: Path) -> bytes:
        if path == runtime / "http/body.py":
            raise PermissionError
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read_if_permitted)
    assert changed_by_hand(runtime) == ["http/body.py"]


def test_differences_are_changed_added_and_removed_paths() -> None:
    before = {"a": "1", "b": "2", "c": "3"}
    assert differences(before, {"c": "3", "b": "9", "d": "4"}) == ["a", "b", "d"]
    assert differences(before, dict(before)) == []


def test_changed_files_are_named(runtime: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(runtime)
    assert capsys.readouterr().out == ""
    (runtime / "VERSION").unlink()
    (runtime / "http" / "body.py").write_text("# changed")
    main(runtime)
    assert capsys.readouterr().out.splitlines() == [
        "runtime/VERSION is not as delivered: see runtime/README.md before you update",
        "runtime/http/body.py is not as delivered: see runtime/README.md before you update",
    ]


def test_command_checks_its_own_runtime_and_succeeds(runtime: Path) -> None:
    (runtime / "VERSION").write_text("changed")
    process = subprocess.run(
        [sys.executable, "-m", "runtime.checksums"],
        cwd=runtime.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    assert process.stdout.startswith("runtime/VERSION is not as delivered")
    assert process.stderr == ""
