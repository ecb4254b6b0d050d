"""`make feature` writes a whole feature, or nothing and one line that says why."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from runtime.checksums import RUNTIME
from runtime.feature import __main__ as feature
from runtime.feature.__main__ import EXIT_REFUSED, EXIT_USAGE, main

APP = """\
from . import greetings
from .runtime import Application


def make_app(settings):
    return Application(settings, routes=[*greetings.routes], resources=[])
"""
PYPROJECT = '[tool.ruff]\nline-length = 100\nlint.select = ["E", "I"]\n'
WRITTEN = {
    "src/shop/orders/__init__.py",
    "src/shop/orders/handlers.py",
    "src/shop/orders/model.py",
    "tests/orders/__init__.py",
    "tests/orders/test_handlers.py",
    "tests/orders/test_model.py",
}

Files = dict[str, bytes]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What a project has at least: the runtime apart."""
    folder = tmp_path / "project"
    for name in ("src/shop/greetings", "tests/deploy"):
        (folder / name).mkdir(parents=True)
    (folder / "src/shop/app.py").write_text(APP)
    (folder / "src/shop/settings.py").write_text("")
    (folder / "tests/test_app.py").write_text("")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    return folder


def files(project: Path) -> Files:
    return {
        path.relative_to(project).as_posix(): path.read_bytes()
        for path in project.rglob("*")
        if path.is_file() and not {".ruff_cache", "__pycache__"} & {*path.parts}
    }


def run(project: Path, *arguments: str) -> int:
    return main([*arguments], project / "src/shop")


def test_feature_is_written_and_wired(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(project)
    assert run(project, "orders") == 0
    after = files(project)
    assert after.keys() - before.keys() == WRITTEN
    assert {name for name in before if after[name] != before[name]} == {"src/shop/app.py"}
    app = APP.replace("import greetings", "import greetings, orders")
    assert after["src/shop/app.py"].decode() == app.replace("[*gre", "[*orders.routes, *gre")
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.startswith(
        "Wrote src/shop/orders/ and tests/orders/, and added orders.routes to src/shop/app.py. Next"
    )
    assert "http://127.0.0.1:8000/orders/tea\n" in shown.out


def test_words_of_a_name_are_joined_by_hyphens_in_urls(project: Path) -> None:
    assert run(project, "order_items") == 0
    package, tests = (files(project / folder) for folder in ("src/shop/order_items", "tests"))
    assert b'Route("/order-items/{name}", ShowItem)' in package["__init__.py"]
    assert b'"""Order items over HTTP."""' in package["handlers.py"]
    assert b'"""The request body of order items."""' in package["model.py"]
    assert b"from shop.order_items.model import Item\n" in tests["order_items/test_model.py"]


@pytest.mark.parametrize("name", ["accounts", "users"])
def test_configuration_of_the_project_is_followed(project: Path, name: str) -> None:
    # One comes before `runtime` in the alphabet, the other one after it.
    own = 'line-length = 88\nformat.quote-style = "single"\n'
    (project / "pyproject.toml").write_text(PYPROJECT.replace("line-length = 100\n", own))
    assert run(project, name) == 0
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, f"src/shop/{name}", f"tests/{name}"]
        subprocess.run(ruff, cwd=project, check=True)


def test_app_that_was_not_formatted_is_not_formatted(project: Path) -> None:
    app = project / "src/shop/app.py"
    app.write_text(APP.replace("(settings)", "( settings )"))
    assert run(project, "orders") == 0
    assert "def make_app( settings ):" in app.read_text()
    assert "import greetings, orders\n" in app.read_text()
    # What was formatted stays so, also if a line becomes too long.
    app.write_text(APP)
    assert run(project, "orders_and_what_else_has_to_be_delivered_today") == 0
    ruff = [sys.executable, "-m", "ruff", "format", "--check", app]
    subprocess.run(ruff, cwd=project, check=True)


def test_project_may_do_without_ruff(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(project / "python"))
    assert run(project, "orders") == 0
    after = files(project)
    assert after.keys() >= WRITTEN
    assert b"from .runtime import Application\nfrom . import orders\n" in after["src/shop/app.py"]


@pytest.mark.parametrize("app", ["make_app = None\n", "this is no Python\n", None])
def test_without_a_place_in_the_app_the_lines_are_shown(
    project: Path, capsys: pytest.CaptureFixture[str], app: str | None
) -> None:
    path = project / "src/shop/app.py"
    path.unlink() if app is None else path.write_text(app)
    before = files(project)
    assert run(project, "orders") == 0
    after = files(project)
    assert after == {**after, **before}
    assert after.keys() - before.keys() == WRITTEN
    shown = capsys.readouterr().out
    assert "found no place for the routes in src/shop/app.py" in shown
    assert "\n  from . import orders\n  *orders.routes,\n" in shown


REFUSED = {
    "order-items": "Try NAME=order_items.",
    "OrderItems": "Try NAME=order_items.",
    "Order items": "Try NAME=order_items.",
    "2orders": "Try NAME=orders.",
    "orders_": "Try NAME=orders.",
    "_orders": "Try NAME=orders.",
    "order__items": "Try NAME=order_items.",
    "src/orders": "Try NAME=src_orders.",
    "../orders": "Try NAME=orders.",
    "Überweisung": "is no name for a package",
    "it's": "Try NAME=it_s.",
    "42": "starting with a letter",
    "class": "class is a word of Python.",
    "list": "list is a word of Python.",
    "tests": "tests is the name of the folder of all tests.",
    "greetings": "src/shop/greetings exists.",
    "settings": "src/shop/settings.py exists.",
    "deploy": "tests/deploy exists.",
    "test_app": "tests/test_app.py exists.",
    "make_app": "make_app already means something in src/shop/app.py.",
    "o" * 90: "is too long for lines of 100 characters.",
    "o" * 300: "File name too long",
}


@pytest.mark.parametrize("name", REFUSED)
def test_name_that_cannot_be_used_is_refused_in_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    before = files(project)
    assert run(project, name) == EXIT_REFUSED
    assert files(project) == before
    assert not [*project.rglob("o*")]
    shown = capsys.readouterr()
    assert shown.out == ""
    [line] = shown.err.splitlines()
    assert REFUSED[name] in line


def test_second_time_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "orders") == 0
    before = files(project)
    assert run(project, "orders") == EXIT_REFUSED
    assert files(project) == before
    assert capsys.readouterr().err == "src/shop/orders exists.\n"


@pytest.mark.parametrize("arguments", [[], [""], ["orders", "items"]])
def test_without_one_name_the_usage_is_shown(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(project, *arguments) == EXIT_USAGE
    assert capsys.readouterr().err == "Usage: make feature NAME=orders\n"


def test_nothing_is_left_if_tests_cannot_be_written(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(project / "tests")
    before = files(project)
    assert run(project, "orders") == EXIT_REFUSED
    assert files(project) == before
    assert not (project / "src/shop/orders").exists()
    shown = capsys.readouterr().err
    assert shown == f"cannot write {project}/tests/orders: No such file or directory\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left", "app.py.new")])
def test_nothing_is_left_if_the_app_cannot_be_replaced(
    project: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(path: Path, mode: object) -> None:
        raise error

    before = files(project)
    monkeypatch.setattr(feature.shutil, "copymode", fail)
    if isinstance(error, OSError):
        assert run(project, "orders") == EXIT_REFUSED
    else:
        with pytest.raises(KeyboardInterrupt):
            run(project, "orders")
    assert files(project) == before
    assert not [*project.rglob("orders")]


def test_mode_of_the_app_is_kept(project: Path) -> None:
    app = project / "src/shop/app.py"
    app.chmod(0o640)
    assert run(project, "orders") == 0
    assert app.stat().st_mode & 0o777 == 0o640


def test_command_finds_its_own_project(project: Path) -> None:
    shutil.copytree(RUNTIME, project / "src/shop/runtime")
    done = subprocess.run(
        [sys.executable, "-m", "shop.runtime.feature", "orders"],
        cwd=project / "src",
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("Wrote src/shop/orders/")
    assert files(project).keys() >= WRITTEN
