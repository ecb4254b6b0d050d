"""What was answered with no leaves no word behind."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .bakes import Answers, choices, kept, label, matrix

Bake = Callable[..., Path]

WORDS = {
    "metrics": re.compile(r"prometheus|prom(tool|ql)|grafana|dashboard|metric"),
    "tracing": re.compile(r"opentelemetry|otlp|otel|traceparent|tracing|tracer|\bspans?\b"),
}
# What is installed for these alone, under whatever names.
DISTRIBUTIONS = {
    "metrics": "prometheus-client",
    "tracing": "opentelemetry-|googleapis-common-protos|protobuf|requests|urllib3",
}

# The files that an optional part has lines in.
CONNECTED = {".env.example", "README.md", "__main__.py", "constraints.txt", "pyproject.toml"}

# What has to be called so in any case: the fields of the log, whose names the metrics have too,
# and the autoscaler of Kubernetes.
OTHERS = {
    "deploy/kubernetes/README.md": "- metrics-server, for the autoscaler",
    "deploy/kubernetes/base/hpa.yaml": "  metrics:",
}


def lines(project: Path, words: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Find words in the names of the files and in their lines, but for what is something else."""
    for path in sorted(path for path in project.rglob("*") if path.is_file()):
        name = path.relative_to(project).as_posix()
        # Other tests install the default project and run it in place.
        if name.startswith(".venv/") or "__pycache__" in name:
            continue
        # The runtime has the same bytes in every project: test_runtime_files.py checks its rooms.
        if "/runtime/" in name:
            continue
        text = f"{name}\n{path.read_text('utf-8')}"
        if not words.search(text.lower()):  # which is quicker than line by line
            continue
        allowed = tuple(start for of, start in OTHERS.items() if Path(name).match(of))
        for line in text.splitlines():
            if words.search(line.lower()) and not (allowed and line.startswith(allowed)):
                yield name, line


def found(project: Path, question: str) -> list[tuple[str, str]]:
    """List the lines with a word of a feature, and those of what it would install."""
    pinned = re.compile(DISTRIBUTIONS[question])
    constraints = (project / "constraints.txt").read_text("utf-8").splitlines()
    return [
        *lines(project, WORDS[question]),
        *(("constraints.txt", line) for line in constraints if pinned.match(line)),
    ]


def test_words_of_every_optional_room_are_known() -> None:
    rooms = {
        question
        for feature in kept()
        for question in feature["for"]
        if any("/runtime/" in path for path in feature["paths"])
    }
    # "Several processes" is no part that could do without the word "worker".
    assert WORDS.keys() == DISTRIBUTIONS.keys() == {q for q in rooms if True in choices()[q]}


@pytest.mark.parametrize("question", WORDS)
@pytest.mark.parametrize("answers", matrix(), ids=label)
def test_words_are_there_for_those_who_want_it_alone(
    bake: Bake, answers: Answers, question: str
) -> None:
    rest = found(bake(**answers), question)
    if answers[question]:
        assert {re.sub("^src/[^/]+/", "", name) for name, _ in rest} >= CONNECTED
    else:
        assert rest == []


def test_what_is_allowed_is_there(bake: Bake) -> None:
    project = bake(metrics=True, tracing=False, deploy="kubernetes")
    for pattern, start in OTHERS.items():
        [path] = project.glob(pattern)
        assert any(line.startswith(start) for line in path.read_text().splitlines()), path
