"""What a project consists of, as git knows it: files by path."""

import os
from pathlib import Path

from .git import Git

Tree = dict[str, str]
"""Mode and hash of each file, by its path in the project."""


class Copy:
    """A copy of a project's repository, in which an update is tried. The project is not touched.

    Args:
        folder: where the copy is made; it must not exist.
        root: the top folder of the project's repository.
        prefix: the path of the project in it, with a slash at its end; empty for the root.
        author: name and e-mail address for commits.
    """

    def __init__(self, folder: Path, root: Path, prefix: str, author: tuple[str, str]) -> None:
        self.git = Git(folder)
        self._prefix = prefix
        original = Git(root)
        head = original("rev-parse", "HEAD")
        # Shared: the copy looks for the objects of the original in their place.
        original("clone", "--quiet", "--shared", "--no-checkout", str(root), str(folder))
        self.git("config", "user.name", author[0])
        self.git("config", "user.email", author[1])
        # Nobody is asked for a key, and nothing of the user's runs, for a commit that is a trial.
        self.git("config", "commit.gpgSign", "false")
        self.git("config", "core.hooksPath", os.devnull)
        self.git("checkout", "--quiet", "--detach", head)

    def tree_of_folder(self, folder: Path) -> Tree:
        """Store the files of a folder. Those that git would ignore are files, too."""
        environment = {
            "GIT_DIR": str(self.git.folder / ".git"),
            "GIT_WORK_TREE": str(folder),
            "GIT_INDEX_FILE": str(folder.with_name(f"{folder.name}.index")),
        }
        inside = Git(folder)
        inside("add", "--all", "--force", ".", **environment)
        # "<mode> <hash> <stage>\t<path>"
        lines = [
            line.partition("\t") for line in inside.paths("ls-files", "-z", "-s", **environment)
        ]
        return {path: entry.rpartition(" ")[0] for entry, _, path in lines}

    def tree_of_commit(self, commit: str) -> Tree:
        """List the files of the project in a commit."""
        # "<mode> blob <hash>\t<path>"
        listed = self.git.paths("ls-tree", "-r", "-z", "--full-tree", f"{commit}:{self._prefix}")
        lines = [line.partition("\t") for line in listed]
        return {path: entry.replace(" blob ", " ") for entry, _, path in lines}

    def deleted(self, old: Tree, own: Tree) -> set[str]:
        """List the files of the old tree that the project has neither there nor elsewhere."""
        trees = self._write(old, ""), self._write(own, "")
        options = ("--name-only", "--find-renames", "--diff-filter=D", "-z")
        return set(self.git.paths("diff", *options, *trees))

    def unmerged(self) -> dict[str, str]:
        """List the files that git could not merge, each with the stages that it has of them."""
        found: dict[str, str] = {}
        # "<mode> <hash> <stage>\t<path>"
        for line in self.git.paths("ls-files", "--unmerged", "-z"):
            entry, _, path = line.partition("\t")
            found[path] = found.get(path, "") + entry[-1]
        return found

    def commit(self, tree: Tree, message: str, *parents: str) -> str:
        """Store a commit in which the project is all that there is. Returns its hash."""
        options = [option for parent in parents for option in ("-p", parent)]
        return self.git("commit-tree", self._write(tree, self._prefix), *options, given=message)

    def _write(self, tree: Tree, prefix: str) -> str:
        index = self.git.folder / ".git" / "tree.index"
        index.unlink(missing_ok=True)
        environment = {"GIT_INDEX_FILE": str(index)}
        lines = "".join(f"{entry}\t{prefix}{path}\0" for path, entry in tree.items())
        self.git("update-index", "-z", "--add", "--index-info", given=lines, **environment)
        return self.git("write-tree", **environment)
