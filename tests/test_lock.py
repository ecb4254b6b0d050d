"""`make lock`: which line of constraints.txt gets which condition. Nothing is resolved here."""

import re

import pytest
from jinja2 import Environment

from maintenance import lock
from maintenance.lock import CONSTRAINTS, TREE, LockError, parse

TEXT = (TREE / CONSTRAINTS).read_text("utf-8")
ON, OFF = {"metrics": True, "tracing": True}, {"metrics": False, "tracing": False}
OLD = """\
# A comment
# of two lines.
arrow==1.0
{% if cookiecutter.metrics or cookiecutter.tracing %}
both==1.0
{% endif %}
{% if cookiecutter.tracing %}
trace==1.0
trace-api==1.0 ; python_full_version < '3.12'
trace-api==2.0 ; python_full_version >= '3.12'
{% endif %}
"""


def resolved(text: str = TEXT) -> list[tuple[lock.Answers, lock.Lines]]:
    """Return what would be resolved if every version in a file were the newest."""
    template = Environment(trim_blocks=True, lstrip_blocks=True).from_string(text)
    return [
        (answers, parse(template.render(cookiecutter=answers).splitlines()))
        for answers in lock.variations()
    ]


def small(*lines: str, **only: str) -> list[tuple[lock.Answers, lock.Lines]]:
    """Return four projects that install `lines`; `only` has others by what they are for."""
    found = []
    for metrics in True, False:
        for tracing in True, False:
            answers = {"metrics": metrics, "tracing": tracing}
            wanted = [line for name, line in only.items() if answers.get(name)]
            found.append((answers, parse([*lines, *wanted])))
    return found


def test_what_is_the_newest_already_stays_as_it_is() -> None:
    assert lock.renew_project(TEXT, resolved()) == TEXT


def test_every_condition_is_tried_on_and_off() -> None:
    answers = [{**variation} for variation in lock.variations()]
    for condition in {*lock.conditions(TEXT).values()} - {""}:
        assert {lock._is_met(condition, given) for given in answers} == {True, False}, condition


def test_new_versions_keep_comments_and_conditions() -> None:
    newer = [
        (
            answers,
            {
                name: [line.replace("==", "==9", 1) for line in lines]
                for name, lines in found.items()
            },
        )
        for answers, found in resolved()
    ]
    assert lock.renew_project(TEXT, newer) == re.sub(r"(?m)^([\w.-]+)==", r"\1==9", TEXT)


def test_new_distribution_gets_the_condition_of_the_projects_that_need_it() -> None:
    new = lock.renew_project(OLD, small("arrow==1.0", "zebra==3", tracing="span==2", metrics=""))
    assert new == (
        "# A comment\n# of two lines.\narrow==1.0\n"
        "{% if cookiecutter.tracing %}\nspan==2\n{% endif %}\nzebra==3\n"
    )


def test_distribution_that_nothing_needs_is_left_out() -> None:
    new = lock.renew_project(OLD, small("arrow==1.0"))
    assert new == "# A comment\n# of two lines.\narrow==1.0\n"


def test_condition_that_also_holds_elsewhere_is_kept() -> None:
    new = lock.renew_project(OLD, small(metrics="arrow==2", tracing="both==2"))
    assert "\narrow==2\n" in new
    assert "{% if cookiecutter.tracing %}\nboth==2\n" in new


def test_distribution_without_a_condition_that_fits_is_refused() -> None:
    with pytest.raises(LockError, match="no condition that fits prom:"):
        lock.renew_project(OLD, small("arrow==1.0", metrics="prom==1"))


@pytest.mark.parametrize("line", ["{# why #}", "{% else %}", "-r other.txt"])
def test_line_that_would_be_lost_is_refused(line: str) -> None:
    with pytest.raises(LockError, match="cannot keep"):
        lock.renew_project(f"{OLD}{line}\n", small("arrow==1.0"))


def test_template_has_what_projects_do_not_have() -> None:
    found = parse(["arrow==1.0", "numpy==1 ; a < '1'", "numpy==2 ; a >= '1'", "attrs==3"])
    text = lock.renew_template("# Ours.\nold==1\n", found, {"arrow": ["arrow==1.0"]})
    assert text == "# Ours.\nattrs==3\nnumpy==1 ; a < '1'\nnumpy==2 ; a >= '1'\n"


def test_changes_are_named() -> None:
    before, after = parse(["a==1", "b==1", "c==1"]), parse(["a==1", "b==2", "d==1"])
    assert lock.changes(before, after) == ["b: 1 -> 2", "c: 1 -> none", "d: none -> 1"]


def test_failure_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [(folder / CONSTRAINTS).read_bytes() for folder in (lock.ROOT, TREE)]

    def fail(*arguments: object, **options: object) -> lock.Lines:
        raise LockError("uv cannot resolve the dependencies.")

    monkeypatch.setattr(lock, "_resolve_projects", resolved)
    monkeypatch.setattr(lock, "_resolve", fail)
    assert lock.main() == 1
    assert capsys.readouterr().err == "uv cannot resolve the dependencies.\nNothing was changed.\n"
    assert [(folder / CONSTRAINTS).read_bytes() for folder in (lock.ROOT, TREE)] == before
