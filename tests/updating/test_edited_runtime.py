"""A runtime that was changed by hand: an update names the files and offers two ways on.

That it stops without one of them is in `test_refusals.py`.
"""

from pathlib import Path

import pytest

from . import repositories as repo

RUNTIME = Path("src/tornado_service/runtime")


@pytest.fixture
def edited(project: Path) -> Path:
    """A project whose team has changed a module of the runtime, deleted one and added one."""
    module = project / RUNTIME / "cpus.py"
    module.write_text(f'"""Ours."""\n\n{module.read_text()}')
    (project / RUNTIME / "own.py").write_text("OWN = True\n")
    (project / RUNTIME / "README.md").unlink()
    repo.commit(project)
    return project


def test_replaced_runtime_is_the_new_one(small: Path, edited: Path, tmp_path: Path) -> None:
    done = repo.update(small, edited, RUNTIME="replace")
    assert done.code == 0, done.output
    fresh = repo.bake(small, f"v{repo.NEXT_VERSION}", tmp_path / "fresh", {})
    assert repo.snapshot(edited / RUNTIME) == repo.snapshot(fresh / RUNTIME)
    again = repo.update(small, edited)
    assert "Nothing to do" in again.output


def test_merged_runtime_has_both_changes(small: Path, edited: Path) -> None:
    done = repo.update(small, edited, RUNTIME="merge")
    assert done.code == 0, done.output
    text = (edited / RUNTIME / "cpus.py").read_text()
    assert text.startswith('"""Ours."""\n')
    assert text.endswith("NEWER = True\n")
    assert (edited / RUNTIME / "own.py").read_text() == "OWN = True\n"
    assert (edited / RUNTIME / "newer.py").exists()
    assert not (edited / RUNTIME / "README.md").exists()
    # The next update finds them again.
    repo.git(edited, "switch", "--quiet", "main")
    repo.git(edited, "merge", "--quiet", "-")
    done = repo.update(small, edited, VERSION=f"v{repo.VERSION}")
    assert done.code == 1
    for name in ("README.md", "cpus.py", "own.py"):
        assert f"  {RUNTIME / name}\n" in done.output
