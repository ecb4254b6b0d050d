"""The answers that the tests bake projects with. All follow from cookiecutter.json, so that a new
question or choice is tested without a change here.
"""

import functools
import itertools
import json
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).parents[1]
TREE = TEMPLATE / "{{cookiecutter.project_slug}}"

Answers = dict[str, Any]

# These say something in a few files and change no others: it is enough that each choice is baked.
ALONE = ("license", "python_version")
# Up to so many combinations all are baked, and beyond it those in which every two choices meet.
ALL_COMBINATIONS = 48


def configuration() -> dict[str, Any]:
    """Read cookiecutter.json."""
    content: dict[str, Any] = json.loads((TEMPLATE / "cookiecutter.json").read_text("utf-8"))
    return content


def questions() -> dict[str, Any]:
    """List the questions with their defaults: a text, a boolean or a list of choices."""
    return {key: raw for key, raw in configuration().items() if not key.startswith("_")}


def choices() -> dict[str, list[Any]]:
    """List the questions that have a few possible answers with these, the default first."""
    found: dict[str, list[Any]] = {}
    for key, raw in questions().items():
        if isinstance(raw, bool):
            found[key] = [raw, not raw]
        elif isinstance(raw, list):
            found[key] = raw
    return found


def defaults() -> Answers:
    """List what each question is answered with if nobody says anything."""
    return {key: raw[0] if isinstance(raw, list) else raw for key, raw in questions().items()}


def kept() -> list[dict[str, Any]]:
    """Tell which answers to which questions keep which paths."""
    features: list[dict[str, Any]] = configuration()["_features"]
    return features


def label(answers: Answers) -> str:
    """Name answers in the id of a test, which must not be long: briefly."""
    named = {key: value for key, value in answers.items() if key not in ALONE} or answers
    return ",".join(f"{key}={value}" for key, value in named.items()) or "default"


def every_value() -> list[Answers]:
    """List a few combinations in which every choice of every question occurs: the default first."""
    found: list[Answers] = [{} for _ in range(max(map(len, choices().values())))]
    for position, (key, values) in enumerate(choices().items()):
        # Questions with two choices alternate at two speeds: they meet in all four ways.
        pace = 1 + position % 2 if len(values) == 2 else 1
        for number, answers in enumerate(found):
            answers[key] = values[number // pace % len(values)]
    return found


@functools.cache
def matrix() -> tuple[Answers, ...]:
    """Combine the choices that select or shape files; those of the others take turns."""
    shaping = {key: values for key, values in choices().items() if key not in ALONE}
    combined = [
        dict(zip(shaping, values, strict=True)) for values in itertools.product(*shaping.values())
    ]
    if len(combined) > ALL_COMBINATIONS:
        combined = in_pairs(combined)
    for number, answers in enumerate(combined):
        answers |= {key: choices()[key][number % len(choices()[key])] for key in ALONE}
    return tuple({label(answers): answers for answers in [ALL_ON, ALL_OFF, *combined]}.values())


def in_pairs(combinations: list[Answers]) -> list[Answers]:
    """Pick a few combinations in which every two choices meet: greedily, so always the same."""

    def pairs(answers: Answers) -> set[Any]:
        return set(itertools.combinations(answers.items(), 2))

    missing = set().union(*map(pairs, combinations))
    picked = []
    while missing:
        best = max(combinations, key=lambda answers: len(pairs(answers) & missing))
        picked.append(best)
        missing -= pairs(best)
    return picked


def keeps(question: str, answer: Any) -> int:
    """Count the features that want this answer."""
    return sum(answer in feature["for"].get(question, []) for feature in kept())


# One that is no question is reported by test_manifest.py.
OPTIONAL = sorted(
    {question for feature in kept() for question in feature["for"]} & choices().keys()
)
# The choices that keep most files, and those that keep fewest.
ALL_ON: Answers = {
    key: max(choices()[key], key=lambda value: keeps(key, value)) for key in OPTIONAL
}
ALL_OFF: Answers = {
    key: min(choices()[key], key=lambda value: keeps(key, value)) for key in OPTIONAL
}

# Legal, and hard on whatever quotes, escapes, formats or wraps text.
AWKWARD: Answers = {
    "project_name": 'O\'Reilly & "Söhne" \\ 100% {x} `$HOME` #1 🚀',
    "project_slug": "o-reilly-2",
    "package_name": "o_reilly_2",
    "description": 'It\'s "all" <b>*here*</b>: C:\\new\\table, 50 %s, {0}, $(id), [x](y) | ~ñ~ 🎉',
    "author_name": 'Zoë "Z" O\'Neill-Łukasz \\ {me} 100% $USER `id` #2 💡',
    "author_email": "zoe.o+news%1@mail.example.co.uk",
}
LONGEST: Answers = {
    "project_name": "W" * 60,
    "project_slug": "w" * 60,
    "package_name": "w" * 60,
    "description": "W" * 200,
    "author_name": "W" * 100,
    "author_email": "w" * 88 + "@example.com",
}
SHORTEST: Answers = {
    "project_name": "a",
    "project_slug": "a",
    "package_name": "a",
    "description": "b",
    "author_name": "c",
    "author_email": "d@e.f",
}

# Every bake of the quick tests, under the name that it has in their output.
BAKES: dict[str, Answers] = {
    **{label(answers): answers for answers in matrix()},
    **{
        f"awkward,deploy={deploy}": {**ALL_ON, **AWKWARD, "deploy": deploy}
        for deploy in choices()["deploy"]
    },
    "longest": {**ALL_ON, **LONGEST},
    "shortest": {**ALL_ON, **SHORTEST},
}
