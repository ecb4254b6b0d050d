"""The READMEs of the template: both languages say the same, and what they show is true."""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from itertools import groupby
from typing import Any
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from benchmarks.readme import ENGLISH, KOREAN
from docs.draw_terminal import ANSWERS, PICTURE, SHOWN

from .bakes import TREE, configuration, defaults, questions
from .running.hostile import MESSAGES

TEXTS = {readme.path.name: readme.path.read_text("utf-8") for readme in (ENGLISH, KOREAN)}
PARSER = MarkdownIt().enable("table")
NUMBER = re.compile(r"\d+(?:[-.,]\d+)*")


def same_code(block: Token) -> str:
    """Return what a block of code has in every language: no comments."""
    if block.info:
        return re.sub(r" +# .*", "", block.content)
    return "\n".join(re.findall(r"^ *\S+", block.content, re.M))


def anchors(tokens: list[Token]) -> dict[str, int]:
    """Number the headings, by the links that lead to them."""
    at = [place + 1 for place, token in enumerate(tokens) if token.type == "heading_open"]
    slugs = [re.sub(r"[^\w -]", "", tokens[place].content.lower()) for place in at]
    return {f"#{slug.replace(' ', '-')}": number for number, slug in enumerate(slugs)}


def skeleton(text: str) -> list[Any]:
    """Return what a README has in every language.

    That is its headings, paragraphs, lists and tables in their order, with all of the code, the
    links, the pictures and the numbers in them. A sentence may have these in another order.
    """
    tokens = PARSER.parse(text)
    places: dict[Any, Any] = {**anchors(tokens), "README.md": "other", "README.ko.md": "other"}
    found: list[Any] = []
    for token in tokens:
        if token.type == "fence":
            found.append((token.info, same_code(token)))
        elif token.type == "inline":
            found.append(("text", Counter(inline(token, places))))
        else:
            comment = token.content if token.type == "html_block" else ""
            found.append((token.type, token.tag, comment))
    return found


def inline(token: Token, places: dict[Any, Any]) -> list[Any]:
    """List what a text has in every language."""
    found: list[Any] = []
    for part in token.children or []:
        if target := part.attrs.get("href", part.attrs.get("src")):
            address = unquote(str(target))
            found.append((part.type, places.get(address, address)))
        elif part.type == "code_inline":
            found.append(("code", part.content))
        elif part.type == "text":
            found += NUMBER.findall(part.content)
    return found


def test_both_languages_say_the_same() -> None:
    english, korean = map(skeleton, TEXTS.values())
    for one, other in zip(english, korean, strict=False):
        assert one == other
    assert len(english) == len(korean)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("## 테스트하기", "### 테스트하기"),
        ("\n## 운영하기\n", "\n"),
        ("$ make demo", "$ make run"),
        ("make update DRY_RUN=1 ", "make update "),
        ("  echo.py  ", "  sockets.py  "),
        ("def get(self, name: str)", "def get(self)"),
        ("`make check`", "`make test`"),
        ("(CHANGELOG.md)", "(CONTRIBUTING.md)"),
        ("(README.md)", "(CHANGELOG.md)"),
        ("(#다른-템플릿과-비교)", "(#배포하기)"),
        ("(docs/dashboard.png)", "(docs/first-minutes.svg)"),
        ("| ≤ 0.55× |", "| ≤ 0.35× |"),
        ("| `nginx` | true |", "| `nginx` | `true` |"),
        ("| `license` | MIT | ", "| `license` | MIT | 라이선스 | "),
        ("(2026-05-05)", "(2026-05-06)"),
        ("약 120줄", "약 12줄"),
        ("- **로그**: ", "**로그**: "),
        (
            "데이터베이스, 사용자 관리, 프런트엔드는 없습니다.",
            "없는 것도 있습니다.\n\n데이터베이스는 없습니다.",
        ),
        ("| 이메일 | 없음 | SMTP, React Email | Anymail | SMTP, React Email | 없음 |\n", ""),
    ],
)
def test_a_change_of_one_language_is_noticed(old: str, new: str) -> None:
    english, korean = TEXTS.values()
    assert old in korean
    assert skeleton(english) != skeleton(korean.replace(old, new, 1))


def shown_default(question: str) -> str:
    default = defaults()[question]
    return str(default).lower() if isinstance(default, bool) else str(default)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_questions_are_those_of_the_template(text: str) -> None:
    lines = re.findall(r"^\|( `\w+`.*)\|$", text, re.M)
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    asked = [re.findall(r"`(\w+)`", row[0]) for row in rows]
    assert [question for questions in asked for question in questions] == list(questions())
    for named, (_, default, note) in zip(asked, rows, strict=True):
        expected = ", ".join(map(shown_default, named))
        assert default == expected or "{{" in expected
        raw = questions()[named[0]]
        if isinstance(raw, list) and named != ["python_version"]:
            assert Counter(re.findall(r"`([^`]+)`", note)) == Counter(raw)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_code_is_that_of_the_template(text: str) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    handlers = TREE / "src/{{cookiecutter.package_name}}/greetings/handlers.py"
    assert code in handlers.read_text("utf-8")


def test_number_of_hostile_messages_is_theirs() -> None:
    assert f"Each of {len(MESSAGES)} malformed" in TEXTS["README.md"]


def lines_of(picture: ET.Element) -> list[str]:
    """Return the lines of a terminal that was drawn, without the spaces that they begin with."""
    texts = picture.iter("{http://www.w3.org/2000/svg}text")
    parts = [(float(text.attrib["y"]), text.text or "") for text in texts]
    return ["".join(part for _, part in line) for _, line in groupby(parts, lambda part: part[0])]


def test_picture_shows_the_questions_as_they_are() -> None:
    shown = [line.replace("\xa0", " ") for line in lines_of(ET.parse(PICTURE).getroot())]
    for number, question in enumerate([*questions()][:SHOWN], 1):
        prompt = configuration()["__prompts__"][question]
        title = prompt if isinstance(prompt, str) else prompt["__prompt__"]
        # Their number may have changed: running/test_picture.py says then to draw it anew.
        [line] = [line for line in shown if re.match(rf"\[{number}/\d+\] ", line)]
        assert line.partition("] ")[2].startswith(title)
        assert ANSWERS.get(question, "") in line


def test_picture_needs_nothing_from_elsewhere() -> None:
    text = PICTURE.read_text("utf-8")
    assert lines_of(ET.fromstring(text))
    assert not re.search(r"href|@import|@font-face|<(image|script|foreignObject)|url\((?!#)", text)


@pytest.mark.parametrize("readme", TEXTS)
def test_error_tracker_is_the_one_that_is_tested_in_a_project(readme: str) -> None:
    documented = (TREE / "docs/change.md").read_text("utf-8")
    [tracker] = [
        token.content
        for token in PARSER.parse(TEXTS[readme])
        if token.type == "fence" and "ErrorTracker" in token.content
    ]
    assert tracker in documented
