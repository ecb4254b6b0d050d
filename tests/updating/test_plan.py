"""Files of the template that a team has deleted, and files that are replaced whole."""

from pathlib import Path

import pytest

from updating.errors import UpdateError
from updating.plan import check_ignored, leave_out, replace_whole
from updating.project import Project
from updating.trees import Tree

from . import repositories as repo


def tree(*paths: str) -> Tree:
    return dict.fromkeys(paths, "100644 1")


def test_deleted_file_stays_deleted() -> None:
    old, new, own = tree("a", "b", "c"), tree("a", "b", "c"), tree("c")
    new["a"] = "100644 2"
    assert leave_out(old, new, own, {"a", "b"}) == ["a"]
    assert (old, new) == (tree("c"), tree("c"))


def test_file_that_template_deletes_as_well_is_not_told() -> None:
    old, new, own = tree("a", "b"), tree("b"), tree("b")
    assert leave_out(old, new, own, {"a"}) == []
    assert (old, new) == (tree("b"), tree("b"))


def test_new_file_in_deleted_folder_is_left_out() -> None:
    old, new = tree("docs/a", "x/y/a", "x/b"), tree("docs/a", "docs/new", "x/y/new", "x/new", "new")
    assert leave_out(old, new, tree("x/b"), {"docs/a", "x/y/a"}) == ["docs/new", "x/y/new"]
    assert new == tree("x/new", "new")
    assert old == tree("x/b")


def test_new_file_in_folder_that_was_emptied_by_renaming_is_kept() -> None:
    # What was renamed is not deleted.
    old, new = tree("docs/a"), tree("docs/a", "docs/new")
    assert leave_out(old, new, tree("pages/a"), set()) == []
    assert new == tree("docs/a", "docs/new")


def test_what_is_replaced_whole_has_no_change_of_the_owner() -> None:
    old, own = tree("runtime/a", "runtime/b", "runtimes", "x"), tree("runtime/c", "runtimes", "y")
    own["runtime/a"] = "100644 2"
    replace_whole(["runtime"], old, own)
    assert old == {**tree("runtimes", "x", "runtime/c"), "runtime/a": "100644 2"}


def test_ignored_file_in_the_place_of_a_folder_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("local\nlink\nkept\n")
    (tmp_path / "docs").write_text("A file that the update turns into a folder.\n")
    repo.begin(tmp_path)
    (tmp_path / "local").write_text("Ours.\n")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "kept").mkdir()
    project = Project(tmp_path)
    check_ignored(project, ["docs/new", "kept/new", "new/new"])
    with pytest.raises(UpdateError, match=r"Move them: link, local$"):
        check_ignored(project, ["local/a/new", "link/a"])
