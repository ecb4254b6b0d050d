"""What documents say holds: each command is run by a test or listed as one that none can run, links
lead somewhere, and commands on files do what the text around them says.
"""

import ast
import filecmp
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from . import checkout
from .bakes import BAKES, TEMPLATE, TREE, matrix
from .commands import Command, commands, in_comments, listed, of_document, programs, register
from .tools import PLACES, needs

Bake = Callable[..., Path]

# Code has docstrings, and data has no comments.
NO_CONFIGURATION = {".css", ".html", ".js", ".json", ".png", ".py", ".xz"}
SIDES = ("template", "project")
LINK = re.compile(r"(?<!\\)\]\(([^):\s]+)\)")


def kind(name: str) -> list[Any]:
    return register()[name]


def commands_of(path: Path) -> list[Command]:
    """List the commands of a document, or those in the comments of another file."""
    if path.suffix == ".md":
        return of_document(path)
    return [] if path.suffix in NO_CONFIGURATION else in_comments(path)


def template_files() -> list[Path]:
    """List the files of the template, without those of the project that it generates."""
    paths = [TEMPLATE / name for name in checkout.names()]
    return [path for path in paths if TREE not in path.parents]


def project_files(project: Path) -> list[Path]:
    """List the files of a project, without those that other tests leave when they run it."""
    places = {path: path.relative_to(project).parts for path in sorted(project.rglob("*"))}
    left = {".venv", "__pycache__"}
    return [path for path, parts in places.items() if path.is_file() and not left & {*parts}]


@pytest.fixture(scope="module")
def places(bake: Bake) -> dict[str, dict[str, str]]:
    """Every command of the template and of the projects, and a file that has it."""
    found: dict[str, dict[str, str]] = {side: {} for side in SIDES}
    for path in template_files():
        if path.name != "commands.toml":
            name = str(path.relative_to(TEMPLATE))
            found["template"] |= {command.key: name for command in commands_of(path)}
    for answers in matrix():
        project = bake(**answers)
        for path in project_files(project):
            name = str(path.relative_to(project.parent))
            found["project"] |= {command.key: name for command in commands_of(path)}
    return found


@pytest.fixture(scope="module")
def followed(bake: Bake) -> dict[str, set[str]]:
    """The commands that tests read from the documents."""
    found: dict[str, set[str]] = {side: set() for side in SIDES}
    for entry in kind("followed"):
        side, place = "template", TEMPLATE / entry["document"]
        if TREE in place.parents:
            side, place = "project", bake(**entry.get("answers", {})) / place.relative_to(TREE)
        for section in entry.get("sections", [""]):
            among = commands(place, section)
            assert among, f"no commands in {entry['document']} {section}"
            found[side] |= {command.key for command in among}
    return found


# The register


@pytest.mark.parametrize("side", SIDES)
def test_every_command_is_run_or_has_a_reason(
    places: dict[str, dict[str, str]], followed: dict[str, set[str]], side: str
) -> None:
    # The documents of the template speak of the commands of projects, too.
    sides = {side, "project"}
    known = {key for one in sides for key in [*followed[one], *listed(one)]}
    unknown = {command: name for command, name in places[side].items() if command not in known}
    assert not unknown, "run these in a test, or say in tests/commands.toml why none can"


def test_nothing_is_listed_that_no_document_says(places: dict[str, dict[str, str]]) -> None:
    for entry in [*kind("run"), *kind("not_run")]:
        there = {key for side in SIDES if entry.get("side", side) == side for key in places[side]}
        assert [key for key in entry["commands"] if key not in there] == []
    for side in SIDES:
        assert [key for key, count in Counter(listed(side)).items() if count > 1] == []


def test_programs_are_known(bake: Bake) -> None:
    for answers in matrix():
        for path in project_files(bake(**answers)):
            if path.suffix == ".md":
                for command in commands(path):
                    program = command.program
                    assert program in programs() or ".venv/bin/" in program, program


def test_reasons_are_sentences() -> None:
    for entry in kind("not_run"):
        assert re.fullmatch(r"[A-Z.].{20,}\.", entry["reason"], re.S), entry["reason"]


@pytest.mark.parametrize(
    "entry", [*kind("followed"), *kind("run")], ids=lambda entry: entry["test"].rpartition("/")[2]
)
def test_tests_that_run_commands_exist(entry: dict[str, Any]) -> None:
    path, _, name = entry["test"].partition("::")
    text = (TEMPLATE / path).read_text("utf-8")
    [function] = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    code = ast.get_source_segment(text, function)
    assert code
    for section in entry.get("sections", []):
        assert f'"{section}"' in code, f"{name} does not follow {section}"


def test_commands_are_found(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(
        "Run `make test` or `A=1 make\nup`, not `make`; `sudo cp a b` \\| `GET /`.\n\n"
        "```console\n$ sudo first \\\n    --long\nits output\n{% raw %}\n$ second\n```\n\n"
        "```sh\nthird  # why\nfourth \\\n    --long\n```\n\n```python\nsudo = `no command`\n```\n"
    )
    blocks = commands(document)
    assert [command.output for command in blocks] == ["its output\n{% raw %}", ""]
    assert [command.key for command in of_document(document)] == [
        *("first --long", "second", "third", "fourth --long"),
        *("make test", "A=1 make up", "cp a b"),
    ]
    configuration = tmp_path / "x.conf"
    configuration.write_text("# Run `make\n# test`.\n# $ make up\nmake: `make no command`\n")
    assert [command.key for command in in_comments(configuration)] == ["make up", "make test"]


# Documents


def test_commands_of_a_project_stand_after_a_prompt(bake: Bake) -> None:
    for answers in matrix():
        for path in project_files(bake(**answers)):
            if path.suffix == ".md":
                languages = set(re.findall(r"^```(\w+)$", path.read_text("utf-8"), re.M))
                assert not languages & {"sh", "bash", "shell"}, path


def anchors(document: Path) -> set[str]:
    """List the anchors of the headings of a document, as GitHub and GitLab make them."""
    text = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_lead_somewhere(bake: Bake) -> None:
    documents = {path for path in template_files() if path.suffix == ".md"}
    for answers in BAKES.values():
        documents |= {path for path in project_files(bake(**answers)) if path.suffix == ".md"}
    with_anchor = 0
    for path in documents:
        for target in LINK.findall(path.read_text("utf-8")):
            name, _, anchor = target.partition("#")
            place = path.parent / name if name else path
            assert place.exists(), f"{path} refers to {target}"
            assert not anchor or anchor in anchors(place), f"{path} refers to {target}"
            with_anchor += bool(anchor)
    assert with_anchor


def test_every_document_of_a_project_can_be_found_from_its_readme(bake: Bake) -> None:
    for answers in matrix():
        project = bake(**answers)
        found, new = set[Path](), {project / "README.md"}
        while new:
            found |= new
            links = {
                (path.parent / target.partition("#")[0]).resolve()
                for path in new
                for target in LINK.findall(path.read_text("utf-8"))
            }
            links = {link / "README.md" if link.is_dir() else link for link in links}
            new = {link for link in links if link.suffix == ".md" and link.exists()} - found
        documents = {path for path in project_files(project) if path.suffix == ".md"}
        # That one is found by its name.
        assert documents <= found | {project / "AGENTS.md"}


# Commands on the files of a project


def run(command: Command | str, folder: Path) -> str:
    """Run a command as it stands, and return what it prints."""
    line = command if isinstance(command, str) else command.line
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={"PATH": PLACES},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def copy(bake: Bake, tmp_path: Path) -> Callable[..., Path]:
    """Copies a project, for a test that changes it."""

    def copy(**answers: str) -> Path:
        return Path(shutil.copytree(bake(**answers), tmp_path / "project"))

    return copy


def test_commands_in_sentences(bake: Bake) -> None:
    project = bake(deploy="none")
    said = {command.key for path in project.rglob("*.md") for command in of_document(path)}
    settings = "set -a; . deploy/production.env; set +a"
    sums = "sha256sum --check --ignore-missing SHA256SUMS"
    secret = 'python3 -c "import secrets; print(secrets.token_hex(32))"'
    assert {settings, sums, secret} <= said
    assert run(f"{settings}; env | grep ^APP_PORT=", project) == "APP_PORT=8000\n"
    run(sums, project / "src/tornado_service/runtime")
    assert len(bytes.fromhex(run(secret, project))) == 32


def test_promtool_accepts_the_rules(bake: Bake) -> None:
    needs("promtool")
    project = bake()
    for command in commands(project / "deploy/prometheus/README.md", "Change"):
        run(command, project)


def test_rules_for_the_operator(copy: Callable[..., Path]) -> None:
    project = copy(deploy="kubernetes")
    readme = project / "deploy/prometheus/README.md"
    *write, apply = commands(readme, "Install")
    for command in write:
        run(command, project)
    assert apply.line == "kubectl -n production apply -f podmonitor.yaml -f rules.yaml"
    made = yaml.safe_load((project / "rules.yaml").read_text("utf-8"))
    rules = (project / "deploy/prometheus/tornado-service.rules.yml").read_text("utf-8")
    assert made["kind"] == "PrometheusRule"
    assert made["spec"] == yaml.safe_load(rules)
    [monitor] = re.findall(
        r"^```yaml\n(.*?kind: PodMonitor.*?)^```", readme.read_text("utf-8"), re.M | re.S
    )
    assert yaml.safe_load(monitor)["spec"]["podMetricsEndpoints"][0]["port"] == "admin"


def test_addresses_of_compose_can_be_changed(copy: Callable[..., Path]) -> None:
    project = copy(deploy="docker")
    readme = project / "deploy/docker/README.md"

    def files_with(address: str) -> set[str]:
        texts = {path: path.read_text("utf-8") for path in project_files(project) if path != readme}
        return {path.name for path, text in texts.items() if address in text}

    before = files_with("172.30.87.")
    [command] = commands(readme, "Addresses")
    run(command, project)
    assert files_with("10.99.99.") == before
    assert files_with("172.30.87.") == set()


def test_tls_files_of_compose(copy: Callable[..., Path]) -> None:
    project = copy(deploy="docker")
    (project / "own.crt").write_text("certificate")
    (project / "own.key").write_text("key")
    own = {"YOUR-CERTIFICATE": "own.crt", "YOUR-KEY": "own.key"}
    for command in commands(project / "deploy/docker/README.md", "TLS"):
        if command.line.startswith("cp "):
            line = command.line
            for name, file in own.items():
                line = line.replace(name, file)
            run(line, project)
    tls, nginx = project / "deploy/docker/tls", project / "deploy/nginx"
    names = {path.name for path in tls.iterdir()} - {".gitignore"}
    assert names == {"tls.conf", "fullchain.pem", "privkey.pem"}
    assert filecmp.cmp(tls / "tls.conf", nginx / "tls.conf", shallow=False)
    conf = (tls / "tls.conf").read_text("utf-8")
    assert {name for name in names if f"/{name};" in conf} == names - {"tls.conf"}


def test_log_rotation_of_compose(copy: Callable[..., Path]) -> None:
    project = copy(deploy="docker", logging="file")
    [follow, rotate] = commands(project / "deploy/docker/README.md", "Logs")
    assert follow.line.startswith("dc exec app tail -F")
    write, target = rotate.line.split(" | sudo tee ")
    assert target == "/etc/logrotate.d/tornado-service"
    written = run(write, project)
    assert "/var/lib/docker/volumes/tornado-service_logs/_data/" in written
    assert "/var/log/" not in written
