"""The samples of a project's docs/change.md, put where it says: they pass the project's own checks,
and do what it promises.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from .environments import add, install, succeed

SAMPLES = Path(__file__).with_name("samples")
"""What puts the samples together, and their tests."""

FILES = {
    "Handlers": ["src/tornado_service/orders/handlers.py"],
    "Request bodies": ["src/tornado_service/orders/model.py"],
    "Resources": ["src/tornado_service/orders/store.py"],
    "Server-sent events (SSE)": [
        "src/tornado_service/orders/events.py",
        "src/tornado_service/orders/journal.py",
    ],
    "Long polling": ["src/tornado_service/orders/wait.py"],
    "Metrics of your own": ["src/tornado_service/orders/metrics.py"],
    "Spans of your own": ["src/tornado_service/orders/spans.py"],
    "Pages": ["src/tornado_service/pages.py", "src/tornado_service/names/handlers.py"],
    "Forms and uploads": [
        "src/tornado_service/uploads/attach.py",
        "src/tornado_service/uploads/stream.py",
    ],
    "Error tracker (Sentry) and other extensions": ["src/tornado_service/tracker.py"],
    "Tests": ["tests/test_greeting.py", "tests/test_unknown_order.py", "tests/test_events.py"],
}
"""The samples of each section that are whole files. The others are added to files that exist."""

SENTRY = "sentry-sdk>=2,<3"
"""The dependency of the error tracker, as the document says."""

ADDED = {
    "Settings": ["src/tornado_service/settings.py", "tests/conftest.py"],
}


def samples(text: str, language: str) -> dict[str, list[str]]:
    """List the samples of each section of a document."""
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    found = {
        title: re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)
        for title, section in sections.items()
    }
    return {title: blocks for title, blocks in found.items() if blocks}


def add_settings(project: Path, settings: str, fixture: str) -> None:
    """Add the fields and the fixture as their owner would."""
    places = [project / name for name in ADDED["Settings"]]
    texts = [place.read_text("utf-8") for place in places]
    imports, _, fields = settings.partition("\n\nclass Settings(runtime.Settings):\n")
    imports = imports.partition("\n\nfrom . import runtime")[0]
    texts[0] = texts[0].replace("from . import runtime", f"{imports}\n\nfrom . import runtime")
    texts[0] += fields
    texts[1] = texts[1].replace(
        "from collections.abc import AsyncIterator\n",
        "from collections.abc import AsyncIterator\nfrom pathlib import Path\n",
    )
    texts[1] += f"\n\n{fixture}"
    for place, text in zip(places, texts, strict=True):
        place.write_text(text, "utf-8")


def add_tracker(project: Path) -> None:
    """List the extension as its owner would, with its dependency."""
    main = project / "src/tornado_service/__main__.py"
    text = main.read_text("utf-8")
    text = text.replace("        Metrics(),\n", "        ErrorTracker(),\n        Metrics(),\n")
    before = "from .runtime.workers import Prefork\n"
    main.write_text(text.replace(before, f"{before}from .tracker import ErrorTracker\n"), "utf-8")
    configuration = project / "pyproject.toml"
    text = configuration.read_text("utf-8")
    before = "dependencies = [\n"
    configuration.write_text(text.replace(before, f'{before}    "{SENTRY}",\n', 1), "utf-8")


def test_samples_work(bake_into: Callable[..., Path], shared: Path, tmp_path: Path) -> None:
    project = bake_into(tmp_path, tracing=True)
    text = (project / "docs/change.md").read_text("utf-8")
    found = samples(text, "python")
    assert found.keys() == FILES.keys() | ADDED.keys(), "put these samples somewhere, too"
    for title, names in FILES.items():
        for name, sample in zip(names, found[title], strict=True):
            (project / name).parent.mkdir(exist_ok=True)
            (project / name).write_text(sample, "utf-8")
    add_settings(project, *found["Settings"])
    assert f"`{SENTRY}`" in text
    package = project / "src/tornado_service"
    for folder in ("orders", "names", "uploads"):
        (package / folder / "__init__.py").touch()
    for folder in ("templates", "static"):
        (package / folder).mkdir()
    [[page]] = samples(text, "html").values()
    (package / "templates/name.html").write_text(page, "utf-8")
    (package / "static/page.css").write_text("p { color: red }\n", "utf-8")
    shutil.copytree(SAMPLES, project, dirs_exist_ok=True)
    with (project / ".env.example").open("a") as example:
        example.write((SAMPLES / "env.example").read_text("utf-8"))
    python = install(project, shared)
    add_tracker(project)  # not before: other projects need not have it
    add(project, python, SENTRY)
    succeed(project, python, "ruff", "format", "--check", ".")
    succeed(project, python, "ruff", "check", ".")
    succeed(project, python, "mypy")
    succeed(project, python, "importlinter.cli", "--no-cache")
    # The sample settings concern these tests of the project, too; the others are run elsewhere.
    tests = [
        "test_samples.py",
        "test_tracker.py",
        *(Path(name).name for name in FILES["Tests"]),
        "deploy",
    ]
    succeed(project, python, "pytest", "--quiet", *(f"tests/{name}" for name in tests))
