"""Which version a project has, and which version and answers it is to have."""

import shlex
from dataclasses import dataclass

from .errors import UpdateError
from .project import ANSWERS_FILE, Origin, Project
from .template import RELEASE, Answer, Answers, Template, Version
from .trees import Copy

YES = ("true", "yes", "y", "on", "1")
NO = ("false", "no", "n", "off", "0")

FIXED = ("project_slug", "package_name")
"""Files of the owner have these names in them: a merge cannot change them."""


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    Attributes:
        version: the version to go to. Empty: the newest release; with answers the present version.
        answers: ``key=value``, separated by spaces, with quotes as in a shell.
        runtime: what becomes of a runtime that was changed by hand: ``replace``, ``merge``, or
            empty for refusing the update.
        is_dry_run: whether the update is only shown.
    """

    version: str = ""
    answers: str = ""
    runtime: str = ""
    is_dry_run: bool = False

    def __post_init__(self) -> None:
        if self.runtime not in ("", "replace", "merge"):
            raise UpdateError(f"RUNTIME is replace or merge, not {self.runtime!r}.")


def present_version(project: Project, template: Template, origin: Origin, copy: Copy) -> Version:
    """Find the version that a project has.

    cookiecutter generates from the newest commit, which may be later than the release that the
    project names. So all versions with the runtime of the project are generated, and the most
    similar one counts.

    Raises:
        UpdateError: there is none.
    """
    if origin.version and not RELEASE.fullmatch(f"v{origin.version}"):
        return template.version(origin.version)
    commit = project.last_generated()
    sums = project.blob(commit, f"{origin.runtime}/SHA256SUMS")
    candidates = template.with_runtime(sums)
    if not candidates and origin.version:
        return template.version(origin.version)
    if not candidates:
        raise UpdateError(
            "The template has no version with this runtime/SHA256SUMS. Write the commit of the "
            'template that this project was generated from into the file: version = "<commit>"'
        )
    own = copy.tree_of_commit(commit).items()
    best, most = candidates[0], -1
    for number, version in enumerate(candidates):
        if number == 1:
            print("Looking for the version that the project was generated from ...", flush=True)
        generated = copy.tree_of_folder(template.generate(version, origin.answers))
        generated.pop(ANSWERS_FILE, None)
        same = len(own & generated.items())
        if same == len(generated):
            return version
        # Of equals the first one, which is a release if there is one.
        if same > most:
            best, most = version, same
    return best


def check_keys(questions: dict[str, object], origin: Origin) -> None:
    """Raise `UpdateError` if an answer of a project is to no question of its version.

    Somebody has mistyped it, and the default answer would count in its place.
    """
    for key in origin.answers.keys() - questions.keys():
        raise UpdateError(
            f"{ANSWERS_FILE} answers {key}, but its version has no such question. "
            f"It has: {', '.join(questions)}."
        )


def next_version(template: Template, request: Request, present: Version) -> Version:
    """Choose the version that the project is to have. Raises `UpdateError` if there is none."""
    if request.version:
        return template.version(request.version)
    if request.answers:
        return present
    newest = template.newest()
    # A project that was generated from a commit after the release stays there.
    return present if template.is_part(newest, present) else newest


def next_answers(template: Template, request: Request, origin: Origin, version: Version) -> Answers:
    """Return the answers that the project is to have; a new question has its default answer.

    Raises:
        UpdateError: an answer is given to no question, or is not one of its choices.
    """
    questions = template.questions(version)
    changed = dict(_parse(request.answers))
    for key, value in changed.items():
        if key in FIXED and value != origin.answers.get(key):
            raise UpdateError(f"{key} is a part of your own files: rename it by hand.")
        if key not in questions:
            raise UpdateError(f"There is no question {key!r}. There are: {', '.join(questions)}.")
    given = {key: value for key, value in origin.answers.items() if key in questions}
    # What is not answered may follow from another answer, so cookiecutter answers it.
    return {
        key: _checked(key, value, questions[key]) for key, value in {**given, **changed}.items()
    }


def _parse(answers: str) -> list[tuple[str, str]]:
    """Split what the user has given."""
    try:
        words = shlex.split(answers)
    except ValueError as error:
        raise UpdateError(f"ANSWERS cannot be read: {error}.") from error
    pairs = [word.partition("=") for word in words]
    for word, (_, equals, _) in zip(words, pairs, strict=True):
        if not equals:
            raise UpdateError(f"ANSWERS is key=value key=value, but {word!r} has no '='.")
    return [(key, value) for key, _, value in pairs]


def _checked(key: str, value: Answer, question: object) -> Answer:
    """Return an answer in the type of its question."""
    if isinstance(question, list) and value not in question:
        raise UpdateError(f"{key} is one of {', '.join(question)}, not {value!r}.")
    if isinstance(question, bool) and not isinstance(value, bool):
        if value.lower() not in (*YES, *NO):
            raise UpdateError(f"{key} is true or false, not {value!r}.")
        return value.lower() in YES
    return value
