"""Answers change later: parts of a living project are switched off and on again."""

import difflib
import json
import shlex
from pathlib import Path

import pytest

from ..bakes import ALL_OFF, ALL_ON, AWKWARD, OPTIONAL, Answers, choices, label
from . import repositories as repo

SWITCHES: list[Answers] = [
    ALL_OFF,
    *(
        {question: answer}
        for question in OPTIONAL
        for answer in choices()[question]
        if answer != ALL_ON[question]
    ),
]

OF_THE_PARTS = "deploy/grafana/README.md", "deploy/docker/README.md"
"""Files of parts, which are as long as the part is."""


@pytest.fixture(scope="session")
def everything(once: repo.Once, template: Path) -> Path:
    """A project with everything on, under git, which tests only read."""

    def make(folder: Path) -> None:
        repo.begin(repo.bake(template, f"v{repo.VERSION}", folder, ALL_ON))

    return once("everything", make)


def edit_beside_parts(project: Path, other: Path) -> None:
    """Add a line to the README and each file that differs without a part, away from the part."""
    for name in repo.git(project, "ls-files").split("\n"):
        if (other / name).exists() and not name.endswith((".json", repo.ANSWERS_FILE)):
            on, off = (
                (folder / name).read_text("utf-8").split("\n") for folder in (project, other)
            )
            blocks = difflib.SequenceMatcher(None, on, off, autojunk=False).get_matching_blocks()
            longest = max(blocks, key=lambda block: block.size)
            if (on != off or name == "README.md") and longest.size > 8:
                on.insert(longest.a + longest.size // 2, "# Of our own.")
                (project / name).write_text("\n".join(on), "utf-8")


def written(answers: Answers) -> str:
    """Write answers as they are given to make."""
    text = {True: "true", False: "false"}
    return " ".join(f"{key}={text.get(value, value)}" for key, value in answers.items())


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(answers, id=label(answers), marks=pytest.mark.exhaustive if number else [])
        for number, answers in enumerate(SWITCHES)
    ],
)
def test_part_is_switched_off_and_on_again(
    template: Path, everything: Path, tmp_path: Path, answers: Answers
) -> None:
    project = tmp_path / "project"
    repo.git(tmp_path, "clone", "--quiet", str(everything), str(project))
    without = repo.bake(template, f"v{repo.VERSION}", tmp_path / "other", {**ALL_ON, **answers})
    edit_beside_parts(project, without)
    edited = [name for name in OF_THE_PARTS if not (without / name).exists()]
    for name in edited:
        repo.append(project / name, "Of our own.\n")
    repo.commit(project)
    before = repo.files(project)

    done = repo.update(template, project, ANSWERS=written(answers))
    assert done.code == (2 if edited else 0), done.output
    for name in edited:
        reason = "you have changed it, the template has deleted it"
        assert f"  CONFLICT  {name} ({reason})\n" in done.output
    finish(project, edited)
    off = {name: content for name, content in repo.files(project).items() if name not in edited}
    repo.git(without, "init", "--quiet")
    assert off.keys() == repo.files(without).keys()
    assert "Of our own" in (project / "README.md").read_text()

    done = repo.update(template, project, ANSWERS=written({key: ALL_ON[key] for key in answers}))
    assert done.code == (2 if edited else 0), done.output
    for name in edited:
        assert f"  CONFLICT  {name} (you both have added it)\n" in done.output
        repo.git(project, "checkout", "--quiet", "--ours", name)
    finish(project, edited)
    assert repo.files(project) == before


def finish(project: Path, conflicts: list[str]) -> None:
    """Keep the files that git could not merge as they are, and go on."""
    if conflicts:
        repo.git(project, "add", *conflicts)
        repo.git(project, "-c", "core.editor=true", "cherry-pick", "--continue")
    assert repo.git(project, "status", "--porcelain") == ""


SLUG = {"project_slug": "tornado-service"}


def test_awkward_answers_are_given_and_kept(small: Path, project: Path, tmp_path: Path) -> None:
    texts = {key: AWKWARD[key] for key in ("project_name", "description", "author_name")}
    given = " ".join(f"{key}={shlex.quote(text)}" for key, text in texts.items())
    done = repo.update(small, project, VERSION=f"v{repo.VERSION}", ANSWERS=given)
    assert done.code == 0, done.output
    fresh = repo.bake(small, f"v{repo.VERSION}", tmp_path / "fresh", {**texts, **SLUG})
    repo.git(fresh, "init", "--quiet")
    assert repo.files(project) == repo.files(fresh)
    # The next update reads them from the file.
    done = repo.update(small, project)
    assert done.code == 0, done.output
    assert repo.git(project, "diff", "--name-only", "HEAD~") == CHANGED_BY_NEWER
    _, _, answers = (fresh / repo.ANSWERS_FILE).read_text("utf-8").partition("[answers]\n")
    assert f"[answers]\n{answers}colour = " in (project / repo.ANSWERS_FILE).read_text("utf-8")


def test_answer_that_looks_like_jinja_is_a_text(small: Path, tmp_path: Path) -> None:
    # cookiecutter renders no answer that is typed at its prompt, but those on its command line.
    text = 'Renders {{ templates }} and {% "tags" %}.'
    folder = tmp_path / "project"
    answers = {"description": f"{{{{ {json.dumps(text)} }}}}"}
    repo.begin(repo.bake(small, f"v{repo.VERSION}", folder, answers))
    assert text in (folder / "README.md").read_text()
    done = repo.update(small, folder)
    assert done.code == 0, done.output
    assert repo.git(folder, "diff", "--name-only", "HEAD~") == CHANGED_BY_NEWER


CHANGED_BY_NEWER = """\
.editorconfig
.tornado-template.toml
README.md
deploy/newer.md
deploy/nginx/tornado-service.conf
src/tornado_service/greetings/model.py
src/tornado_service/runtime/SHA256SUMS
src/tornado_service/runtime/cpus.py
src/tornado_service/runtime/newer.py"""


def test_new_question_is_answered(small: Path, project: Path) -> None:
    done = repo.update(small, project, ANSWERS="colour=green", VERSION=repo.NEXT_VERSION)
    assert done.code == 0, done.output
    title = f"Update tornado-template from {repo.VERSION} to {repo.NEXT_VERSION}, with colour=green"
    assert done.output.startswith(f"{title}\n")
    assert "New questions" not in done.output
    assert "The colour is green." in (project / "README.md").read_text()
    assert 'colour = "green"\n' in (project / repo.ANSWERS_FILE).read_text()
    # Another answer is another branch, and the version stays.
    done = repo.update(small, project, ANSWERS="colour=blue metrics=no")
    assert done.code == 0, done.output
    title = "Change the template's answers: metrics=false, colour=blue"
    assert repo.git(project, "log", "-1", "--format=%s") == title
    branch = repo.git(project, "branch", "--show-current")
    assert branch == "tornado-template-metrics-false-colour-blue"
    assert "What to do" not in done.output
    done = repo.update(small, project, ANSWERS="metrics=false")
    assert "Nothing to do" in done.output
