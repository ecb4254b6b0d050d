"""The hooks, function by function; `test_answers.py` runs them for real."""

import ast
import importlib.util
import inspect
import json
import keyword
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PosixPath
from types import ModuleType
from typing import Any

import pytest

from .bakes import ALL_ON, TEMPLATE, Answers, configuration, label

HOOKS = TEMPLATE / "hooks"

GOOD: dict[str, Any] = {
    "project_name": "Tornado Service",
    "project_slug": "tornado-service",
    "package_name": "tornado_service",
    "description": "An HTTP service built on Tornado.",
    "author_name": "Ada Lovelace",
    "author_email": "ada@example.com",
    "license": "MIT",
    "workers": "4",
    "_template": "gh:org/tornado-template",
    "_checkout": None,
    "_features": [],
    "_reserved_names": configuration()["_reserved_names"],
}


def load(name: str) -> ModuleType:
    """Import a hook as it stands, with nothing rendered."""
    spec = importlib.util.spec_from_file_location(name, HOOKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pre_gen = load("pre_gen_project")
post_gen = load("post_gen_project")


@pytest.mark.parametrize("name", ["pre_gen_project", "post_gen_project"])
def test_hook_is_small_plain_python_with_one_expression(name: str) -> None:
    text = (HOOKS / f"{name}.py").read_text("utf-8")
    assert len(text.splitlines()) <= 160
    assert re.findall(r"\{[{%#].*", text) == ['{{ cookiecutter | tojson }}"""']
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {module.split(".")[0] for module in imported} <= sys.stdlib_module_names
    assert not imported & {
        "socket",
        "subprocess",
        "urllib",
        "urllib.request",
        "http",
        "http.client",
    }


# pre_gen_project: complaints


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("project_name", "x"),
        ("project_name", "x" * 60),
        ("project_name", 'O\'Reilly "&" \\ {x} 🚀'),
        ("project_slug", "a"),
        ("project_slug", "a1-2-b"),
        ("project_slug", "a" * 60),
        ("project_slug", "json"),  # Only the package would shadow the module.
        ("package_name", "a"),
        ("package_name", "a_1__b_"),
        ("package_name", "a" * 60),
        ("package_name", "jsons"),
        ("description", "d" * 200),
        ("author_name", "n" * 100),
        ("author_email", "first.last+tag@mail.example.co.uk"),
        ("author_email", "e" * 88 + "@example.com"),
        *(("workers", number) for number in ("1", "9", "10", "59", "60", "64", 4)),
    ],
)
def test_nothing_to_complain(key: str, value: Any) -> None:
    assert pre_gen.complaints({**GOOD, key: value}) == []


LINES = [
    "",
    " ",
    " x",
    "x ",
    "a\nb",
    "a\tb",
    "a\rb",
    "a\x00b",
    "a\x1b[31mb",
    "a\u202eb",
    "a\u2028b",
]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, text) for key in ("project_name", "description", "author_name") for text in LINES),
        ("project_name", "x" * 61),
        ("description", "d" * 201),
        ("author_name", "n" * 101),
        *(
            ("project_slug", slug)
            for slug in (
                "",
                "A",
                "1a",
                "-a",
                "a-",
                "a--b",
                "a_b",
                "a.b",
                "a/b",
                "../a",
                "/a",
                "a b",
            )
        ),
        *(
            ("project_slug", slug)
            for slug in ("é", "a\n", "a" * 61, "tornado", "pydantic-settings", "con", "lpt1")
        ),
        *(
            ("package_name", name)
            for name in ("", "A", "1a", "_a", "a-b", "a.b", "a b", "é", "a\n")
        ),
        *(("package_name", name) for name in ("a" * 61, "json", "tornado", "dotenv", "tests")),
        *(
            ("package_name", name)
            for name in ("class", "match", "type", "cgi", "compression", "nul")
        ),
        *(
            ("author_email", email)
            for email in ("", "me", "me@", "@example.com", "me@example", "me@example..com")
        ),
        *(
            ("author_email", email)
            for email in ("a b@example.com", "a@b@example.com", "é@example.com", 'a"@example.com')
        ),
        *(("author_email", email) for email in ("me@example.com\n", "e" * 89 + "@example.com")),
        *(("workers", number) for number in ("", "0", "65", "100", "04", "-1", "2.5", "٤", "4\n")),
        *(("workers", number) for number in ("auto", "four", " 4", True)),
    ],
)
def test_complains_about_one_answer(key: str, value: Any) -> None:
    complaints = pre_gen.complaints({**GOOD, key: value})
    assert {bad for bad, _ in complaints} == {key}
    assert all(sentence.startswith("must ") for _, sentence in complaints)


def test_complains_about_everything_at_once() -> None:
    asked = [key for key in GOOD if not key.startswith("_") and key != "license"]
    bad = [key for key, _ in pre_gen.complaints({**GOOD, **dict.fromkeys(asked, "\n")})]
    assert bad == [key for key in bad if key in asked]
    assert set(bad) == set(asked)


def test_what_is_taken_does_not_depend_on_who_runs_the_hook() -> None:
    assert {*sys.stdlib_module_names, *keyword.kwlist, *keyword.softkwlist} <= pre_gen.TAKEN
    assert {"cgi", "distutils", "compression", "type"} <= pre_gen.TAKEN
    assert not {"service", "tornado_service", "api"} & pre_gen.TAKEN


# pre_gen_project: the command that tries again


def given(command: str) -> dict[str, str]:
    """Take the answers out of a command, as a shell and cookiecutter would."""
    return dict(word.split("=", 1) for word in shlex.split(command) if "=" in word)


def test_command_repeats_every_good_answer() -> None:
    command = pre_gen.retry_command(GOOD, {"author_email"})
    assert shlex.split(command)[:2] == ["cookiecutter", "gh:org/tornado-template"]
    expected = {key: value for key, value in GOOD.items() if not key.startswith("_")}
    assert expected.pop("author_email")
    assert given(command) == expected


@pytest.mark.parametrize(
    "value", ["it's", '"x"', "a\\b", "$HOME `id` $(id)", "a;b|c&d>e", "*", "a=b", "é🚀", "{x}", "!"]
)
def test_command_survives_the_shell(value: str) -> None:
    command = pre_gen.retry_command({**GOOD, "description": value}, set())
    assert given(command)["description"] == value
    echoed = command.replace("cookiecutter", "printf '%s\\n'", 1)
    lines = subprocess.run(["sh", "-c", echoed], capture_output=True, check=True).stdout.decode()
    assert f"description={value}" in lines.splitlines()


def test_command_repeats_booleans_so_that_cookiecutter_reads_them() -> None:
    assert given(pre_gen.retry_command({"nginx": True, "metrics": False}, set())) == {
        "nginx": "True",
        "metrics": "False",
    }


@pytest.mark.parametrize("value", ["{{ 1 }}", "{% if %}", "{# no #}"])
def test_command_leaves_out_what_cookiecutter_would_render(value: str) -> None:
    assert "description" not in given(pre_gen.retry_command({**GOOD, "description": value}, set()))


def test_command_stays_with_the_version_of_the_template() -> None:
    words = shlex.split(pre_gen.retry_command({**GOOD, "_checkout": "v1.2"}, set()))
    assert words[:4] == ["cookiecutter", "--checkout", "v1.2", "gh:org/tornado-template"]
    assert "--checkout" not in pre_gen.retry_command(GOOD, set())


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The hook as it is on Windows."""
    with monkeypatch.context() as patch:
        patch.setattr("os.name", "nt")
        patch.setattr("pathlib.WindowsPath", PosixPath)
        return load("pre_gen_project")


@pytest.mark.parametrize("value", ["it's", "a;b|c&d>e", "a, b", "é🚀", "{x}", "C:\\a", "@a", "^"])
def test_command_survives_both_shells_of_windows(windows: ModuleType, value: str) -> None:
    command = windows.retry_command({**GOOD, "_template": "C:\\a b", "description": value}, set())
    # Both take what is between these quotes as it is.
    words = [first or second for first, second in re.findall(r'"([^"]*)"|(\S+)', command)]
    assert words[:2] == ["cookiecutter", "C:\\a b"]
    assert dict(word.split("=", 1) for word in words[2:])["description"] == value
    unquoted = re.sub(r'"[^"]*"', "", command)
    assert re.fullmatch(r"[\w.:/\\=+ -]*", unquoted)


@pytest.mark.parametrize("value", ['"x"', "a\\", "$HOME", "%PATH%", "`id`", "“x”", "{{ 1 }}"])
def test_command_leaves_out_what_a_shell_of_windows_changes(
    windows: ModuleType, value: str
) -> None:
    assert "description" not in windows.retry_command({**GOOD, "description": value}, set())


def test_main_prints_complaints_with_values_and_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {**GOOD, "__given_slug": "../x", "author_name": "a\x1b[31m\u202e"}
    monkeypatch.setattr(pre_gen, "ANSWERS", json.dumps(answers))
    assert pre_gen.main() == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second, *_ = captured.err.splitlines()
    assert re.fullmatch(r"project_slug must .*, got '\.\./x'\.", first)
    assert re.fullmatch(r"author_name must .*, got 'a\\x1b\[31m\\u202e'\.", second)
    assert {"project_slug", "author_name"}.isdisjoint(given(captured.err.splitlines()[-2]))
    assert "\x1b" not in captured.err


def test_main_is_silent_when_all_is_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {**GOOD, "__given_slug": GOOD["project_slug"]}
    monkeypatch.setattr(pre_gen, "ANSWERS", json.dumps(answers))
    assert pre_gen.main() == 0
    assert capsys.readouterr() == ("", "")


# post_gen_project: what is removed

FEATURES = [
    {"for": {"ci": ["github"]}, "paths": [".github"]},
    {"for": {"ci": ["gitlab"]}, "paths": [".gitlab-ci.yml"]},
    {"for": {"metrics": [True]}, "paths": ["deploy/prometheus", "src/*/metrics"]},
    {"for": {"ci": ["github", "gitlab"], "metrics": [True]}, "paths": ["deploy/prometheus/ci"]},
]


@pytest.mark.parametrize(
    ("ci", "metrics", "expected"),
    [
        ("github", True, [".gitlab-ci.yml"]),
        ("gitlab", True, [".github"]),
        ("none", True, ["deploy/prometheus/ci", ".github", ".gitlab-ci.yml"]),
        (
            "github",
            False,
            ["src/package/metrics", "deploy/prometheus/ci", "deploy/prometheus", ".gitlab-ci.yml"],
        ),
    ],
)
def test_unwanted_is_what_was_not_chosen(
    ci: str,
    metrics: bool,
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (".github", ".gitlab-ci.yml", "deploy/prometheus/ci", "src/package/metrics"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    answers = {"ci": ci, "metrics": metrics, "_features": FEATURES}
    assert [path.as_posix() for path in post_gen.unwanted(answers)] == expected


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a few files, which is the current one as it is for a hook."""
    for name in ("deploy/nginx/conf.d/a.conf", "deploy/nginx/README.md", "tests/unit/test_a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_remove_takes_a_file_and_the_folders_that_it_leaves_empty(project: Path) -> None:
    post_gen.remove(Path("tests/unit/test_a.py"))
    assert not (project / "tests").exists()
    assert (project / "deploy").exists()


def test_remove_keeps_a_folder_with_something_else_in_it(project: Path) -> None:
    post_gen.remove(Path("deploy/nginx/README.md"))
    assert not (project / "deploy/nginx/README.md").exists()
    assert (project / "deploy/nginx/conf.d/a.conf").exists()


def test_remove_takes_a_folder_with_all_in_it(project: Path) -> None:
    post_gen.remove(Path("deploy/nginx"))
    assert not (project / "deploy").exists()
    assert (project / "tests/unit/test_a.py").exists()


def test_remove_never_takes_the_project_itself(project: Path) -> None:
    post_gen.remove(Path("deploy"))
    post_gen.remove(Path("tests"))
    assert project.exists()
    assert [*project.iterdir()] == []


@pytest.mark.parametrize("path", ["missing", "deploy/missing.py", "missing/folder"])
def test_remove_fails_on_a_path_that_is_not_there(project: Path, path: str) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        post_gen.remove(Path(path))
    assert (project / "deploy/nginx/README.md").exists()


# Both: what is not the template's stays


def files(project: Path) -> dict[str, bytes]:
    """Read a project."""
    found = (path for path in project.rglob("*") if path.is_file())
    return {path.relative_to(project).as_posix(): path.read_bytes() for path in found}


def test_both_hooks_remove_the_same() -> None:
    assert inspect.getsource(pre_gen.unwanted) == inspect.getsource(post_gen.unwanted)
    assert pre_gen.ASIDE == post_gen.ASIDE


def test_files_of_the_owner_outlive_the_part_that_they_belong_to(
    bake_into: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    project = bake_into(tmp_path, **ALL_ON)
    mine = {
        "deploy/nginx/keys/privkey.pem": "a key",
        "deploy/nginx/tls.conf": "# a changed file of the template's",
        "deploy/docker/tls/fullchain.pem": "another part, and one below another",
        "src/tornado_service/runtime/metrics/own.py": "NUMBER = 1",
    }
    for name, text in mine.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    (project / "deploy/nginx/current").symlink_to("no such file")
    byte_code = project / "src/tornado_service/runtime/tracing/__pycache__/client.cpython-311.pyc"
    byte_code.parent.mkdir()
    byte_code.write_text("")
    capfd.readouterr()
    off = {"nginx": False, "metrics": False, "tracing": False}
    bake_into(tmp_path, overwrite=True, **{**ALL_ON, **off})
    fresh = bake_into(tmp_path / "fresh", **{**ALL_ON, **off})
    assert files(project) == files(fresh) | {name: mine[name].encode() for name in mine}
    assert (project / "deploy/nginx/current").is_symlink()
    assert not byte_code.parents[1].exists()
    [line] = [x for x in capfd.readouterr().out.splitlines() if x.startswith("Not removed")]
    names = sorted(map(Path, [*mine, "deploy/nginx/current"]))
    assert line.endswith(": " + ", ".join(path.as_posix() for path in names))


def test_what_a_symbolic_link_leads_to_is_not_of_the_project(
    bake_into: Callable[..., Path], tmp_path: Path
) -> None:
    project = bake_into(tmp_path, **ALL_ON)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "runtime/tracing").mkdir(parents=True)
    (elsewhere / "runtime/tracing/own.py").write_text("NUMBER = 1")
    (project / "src/other").symlink_to(elsewhere)
    before = files(elsewhere)
    bake_into(tmp_path, overwrite=True, **{**ALL_ON, "tracing": False})
    assert files(elsewhere) == before
    assert (project / "src/other").is_symlink()
    assert not (project / "src/tornado_service/runtime/tracing").exists()


@pytest.mark.parametrize(
    "answers",
    [{"nginx": False}, {"metrics": False}, {"processes": "single"}, {"deploy": "none"}],
    ids=label,
)
def test_nothing_is_left_of_a_part_that_its_owner_has_not_changed(
    bake: Callable[..., Path], bake_into: Callable[..., Path], tmp_path: Path, answers: Answers
) -> None:
    project = shutil.copytree(bake(**ALL_ON), tmp_path / "tornado-service")
    bake_into(tmp_path, overwrite=True, **{**ALL_ON, **answers})
    assert files(project) == files(bake(**{**ALL_ON, **answers}))


def test_files_that_a_failed_run_has_left_are_not_mixed_with_others(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "deploy/nginx/privkey.pem").write_text("a key")
    features = [{"for": {"license": ["Proprietary"]}, "paths": ["deploy/nginx"]}]
    answers = {**GOOD, "__given_slug": GOOD["project_slug"], "_features": features}
    monkeypatch.setattr(pre_gen, "ANSWERS", json.dumps(answers))
    assert pre_gen.main() == 0
    before = files(project)
    assert before[f"{pre_gen.ASIDE}/deploy/nginx/privkey.pem"] == b"a key"
    # cookiecutter has not got as far as the other hook.
    (project / "deploy/nginx/privkey.pem").write_text("a new key")
    assert pre_gen.main() == 1
    assert files(project) == before | {"deploy/nginx/privkey.pem": b"a new key"}
    assert f"{pre_gen.ASIDE}/ has files of yours" in capsys.readouterr().err


# post_gen_project: what it says


def test_next_steps_are_coloured_only_on_request() -> None:
    coloured, plain = (post_gen.next_steps(GOOD, colour) for colour in (True, False))
    assert "\033[" in coloured
    assert "\033[" not in plain
    assert re.sub(r"\033\[\d+m", "", coloured) == plain
    steps = ("is ready", "cd tornado-service", "git init", "make run", "make test", "make dev")
    places = [plain.index(step) for step in steps]
    assert places == sorted(places)


def test_next_steps_can_be_taken(bake_into: Callable[..., Path], tmp_path: Path) -> None:
    project = bake_into(tmp_path)
    text = post_gen.next_steps({**GOOD, "project_slug": project.name}, colour=False)
    steps = [line.strip() for line in text.splitlines() if line.startswith("  ")]
    names = ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL")
    environment = {**os.environ, **dict.fromkeys(names, "ada@example.com")}
    [commit] = [step for step in steps if step.startswith("git")]
    script = f"{steps[0]}\n{commit}\ngit status --ignored"
    done = subprocess.run(
        ["sh", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    assert done.stdout.endswith(b"nothing to commit, working tree clean\n")
    targets = [step.split()[1] for step in steps if step.startswith("make")]
    makefile = (project / "Makefile").read_text("utf-8")
    assert len(targets) == 3
    assert {*targets, "update"} <= {*re.findall(r"^(\w+):.* ## ", makefile, re.M)}


class Terminal:
    """Standard output that may be a terminal, and keeps what is printed."""

    def __init__(self, is_terminal: bool) -> None:
        self.is_terminal = is_terminal
        self.text = ""

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> None:
        self.text += text

    def reconfigure(self, *, errors: str) -> None:
        assert errors == "backslashreplace"


@pytest.mark.parametrize(
    ("is_terminal", "no_color", "coloured"),
    [
        (True, None, True),
        (True, "", True),  # no-color.org: present and not empty.
        (True, "1", False),
        (True, "0", False),
        (False, None, False),
        (False, "1", False),
    ],
)
def test_colour_is_for_terminals_whose_owner_wants_it(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, no_color: str | None, coloured: bool
) -> None:
    terminal = Terminal(is_terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(post_gen, "ANSWERS", json.dumps({**GOOD, "_features": []}))
    if no_color is None:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", no_color)
    post_gen.main()
    assert "tornado-service is ready" in terminal.text
    assert ("\033[" in terminal.text) == coloured
