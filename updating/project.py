"""A generated project, as its owner has committed it."""

import json
import re
import runpy
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

from .errors import UpdateError
from .git import Git
from .template import RUNTIME, TEMPLATE, Answers

ANSWERS_FILE = ".tornado-template.toml"
"""Has the template's address, the version and the answers."""

BRANCHES = "tornado-template-"
"""What the names of the branches of updates begin with."""

CHECKSUMS = TEMPLATE / RUNTIME / "checksums.py"
"""Of the newest runtime: the one of the project may be changed by hand."""

NO_ANSWERS = f"""\
There is no {ANSWERS_FILE}, so this project was generated before there were updates. Write the file
with the answers that you gave, and commit it:

  template = "gh:org/tornado-template"

  [answers]
  project_name = "Orders"
  package_name = "orders"
  ...
"""

NO_PACKAGE = f"""\
There is no {{runtime}} here. package_name in {ANSWERS_FILE} is the name of the folder in src/.
"""

NO_COMMIT = """\
An update is a commit on a branch of its own, and this project is not under git yet:
  git init && git add . && git commit -m "Start"
"""

NOT_CLEAN = """\
There are changes that are not committed:
{changes}
Commit them, or put them aside: git stash --include-untracked
"""

INTERRUPTED = """
If they are from an update that was interrupted, give it up:
  git stash --include-untracked && git switch -
"""

UNFINISHED = """\
A cherry-pick is not finished, such as that of an update with conflicts. Finish it:
  git add --update && git cherry-pick --continue
or give it up:
  git cherry-pick --abort && git switch -
"""

LOCKED = """\
Another git command is at work in this project, or was killed. If there is none, remove its lock:
  rm {lock}
"""

ON_BRANCH = """\
You are on the branch {branch}, which the update is to get. Go back to your own first:
  git switch -
"""

NO_AUTHOR = """\
git does not know who you are:
  git config user.name 'Ada Lovelace'
  git config user.email ada@example.com
"""


@dataclass(frozen=True)
class Origin:
    """Where a project comes from.

    Attributes:
        address: that of the template.
        version: the name of the version; empty if it is not known.
        answers: the answers to the questions, by key.
    """

    address: str
    version: str
    answers: Answers

    @property
    def runtime(self) -> str:
        """The folder of the runtime, relative to that of the project."""
        return f"src/{self.answers['package_name']}/runtime"


class Project:
    """A project in a git repository, which may have more beside it.

    Args:
        folder: where its `.tornado-template.toml` is.

    Attributes:
        root: the top folder of the repository.
        prefix: the path of the project in it, with a slash at its end; empty for the root.
        branch: the branch that is checked out; empty if there is none.
        back: the arguments of ``git switch`` that lead back to it, or to its commit.
        author: name and e-mail address of whoever makes the update.

    Raises:
        UpdateError: not everything is committed, so that something could get lost.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git = Git(folder)
        if not self.git.has("HEAD"):
            raise UpdateError(NO_COMMIT)
        self.root = Path(self.git("rev-parse", "--show-toplevel"))
        self.prefix = self.git("rev-parse", "--show-prefix")
        # Empty where a commit is checked out instead of a branch.
        self.branch = self.git("branch", "--show-current")
        commit = self.git("rev-parse", "--short", "HEAD")
        self.back = [self.branch] if self.branch else ["--detach", commit]
        self._check_state()
        if not self.git.is_success("var", "GIT_COMMITTER_IDENT"):
            raise UpdateError(NO_AUTHOR)
        author = self.git.run("var", "GIT_AUTHOR_IDENT")
        if author.returncode:
            raise UpdateError(NO_AUTHOR)
        # "Ada Lovelace <ada@example.com> 1700000000 +0100"
        name, _, rest = author.stdout.partition(" <")
        self.author = name, rest.partition(">")[0]

    def _check_state(self) -> None:
        """Raise `UpdateError` if something is not committed, or another git is at work."""
        lock = self.folder / self.git("rev-parse", "--git-path", "index.lock")
        if lock.exists():
            raise UpdateError(LOCKED.format(lock=shlex.quote(str(lock))))
        if self.git.has("CHERRY_PICK_HEAD"):
            raise UpdateError(UNFINISHED)
        changes = self.git("status", "--porcelain", "--untracked-files=normal")
        if changes:
            interrupted = INTERRUPTED if self.branch.startswith(BRANCHES) else ""
            raise UpdateError(NOT_CLEAN.format(changes=changes) + interrupted)

    def origin(self) -> Origin:
        """Read where the project comes from."""
        file = self.folder / ANSWERS_FILE
        try:
            content = tomllib.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            raise UpdateError(NO_ANSWERS) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UpdateError(f"{ANSWERS_FILE} cannot be read: {error}") from error
        answers = content.get("answers")
        if not isinstance(answers, dict) or not {"project_name", "package_name"} <= answers.keys():
            raise UpdateError(
                f"{ANSWERS_FILE} has no [answers] with a project_name and a package_name."
            )
        # Somebody may have written 4 for "4".
        texts = {
            key: answer if isinstance(answer, bool) else str(answer)
            for key, answer in answers.items()
        }
        address, version = (str(content.get(key, "")) for key in ("template", "version"))
        origin = Origin(address, version, texts)
        if not (self.folder / origin.runtime / "SHA256SUMS").exists():
            raise UpdateError(NO_PACKAGE.format(runtime=f"{origin.runtime}/SHA256SUMS"))
        return origin

    def last_generated(self) -> str:
        """Return the commit in which the project was generated or updated, or a later one."""
        return self.git("rev-list", "--max-count=1", "HEAD", "--", ANSWERS_FILE)

    def blob(self, commit: str, path: str) -> str:
        """Return the hash that git gives to a file in a commit; empty if there is none."""
        return self.git.run("rev-parse", "--verify", "--quiet", f"{commit}:./{path}").stdout.strip()

    def changed_runtime(self, runtime: str) -> list[str]:
        """List the files of the runtime that are not as the template delivered them."""
        checksums = runpy.run_path(str(CHECKSUMS))
        found: list[str] = checksums["changed_by_hand"](self.folder / runtime)
        return [f"{runtime}/{path}" for path in found]


def record_origin(project: Path, address: str, version: str) -> None:
    """Write the address and the version into the answers file of a project.

    It was generated from a folder, which is no address, and names the version of a release.
    """
    file = project / ANSWERS_FILE
    if not file.exists():
        raise UpdateError(f"Version {version} is older than updates. Choose a later one.")
    text = file.read_text("utf-8")
    for key, value in (("template", address), ("version", version)):
        before, after = re.split(rf"^{key} = .*$", text, maxsplit=1, flags=re.M)
        text = f"{before}{key} = {json.dumps(value, ensure_ascii=False)}{after}"
    file.write_text(text, "utf-8", newline="\n")
