"""Draws docs/first-minutes.svg: a project is generated, started and asked.

All of it happens, in two terminals, with the commands of the README; only the address of the
template leads to this folder. The picture is what the terminals have shown, without the questions
in the middle. Run `make picture`; the ports 8000 and 9000 have to be free.
"""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tests.bakes import TEMPLATE, defaults, questions
from tests.running.harness import is_open
from tests.terminal import Terminal
from tests.tools import needs

PICTURE = Path(__file__).with_name("first-minutes.svg")
COLUMNS = 92
PROMPT = "$ "
ADDRESS = "gh:org/tornado-template"
ANSWERS = {"project_name": "Orders", "description": "Takes orders."}
"""Everything else is answered with Enter."""
SHOWN = 4
"""The questions that the picture shows: so many, and the last one."""
KEPT = re.compile("listening on|/greetings/Ada")
"""The log lines that it shows."""
PORTS = 8000, 9000
PROCESSES = int(defaults()["workers"]) + 1

# A dark window with a border: it is legible on a light page and on a dark one.
THEME = TerminalTheme(
    (22, 27, 34),
    (225, 228, 232),
    [
        (72, 79, 88), (255, 123, 114), (126, 231, 135), (210, 153, 34),
        (121, 192, 255), (210, 168, 255), (118, 227, 234), (225, 228, 232),
    ],
)  # fmt: skip
# Rich's own would load a font from a server. Each text has its length: any monospaced font fits.
SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>The first minutes with a generated project</title>
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px;
}}
{styles}
</style>
<defs>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" class="{unique_id}-matrix">
{matrix}
</g>
</svg>
"""


@contextmanager
def shells(folder: Path, **variables: str) -> Iterator[tuple[Terminal, Terminal]]:
    """Open two terminals in an empty folder, in which the address of the template is this folder.

    Args:
        folder: for this run alone.
        variables: more environment variables.
    """
    tools, templates, work = (folder / name for name in ("tools", "templates", "work"))
    for made in (tools, templates / "org", work):
        made.mkdir(parents=True)
    for tool in ("uv", "uvx"):
        (tools / tool).symlink_to(needs(tool))
    (templates / ADDRESS.removeprefix("gh:")).symlink_to(TEMPLATE)
    config = folder / "cookiecutter.json"
    places = {name: str(folder / name) for name in ("cookiecutters_dir", "replay_dir")}
    config.write_text(json.dumps({**places, "abbreviations": {"gh": f"{templates}/{{0}}"}}))
    unwanted = {"CI", "MAKEFLAGS", "MAKELEVEL", "NO_COLOR", "PYTHONPYCACHEPREFIX", "VIRTUAL_ENV"}
    environment = {
        **{name: value for name, value in os.environ.items() if name not in unwanted},
        "COLUMNS": str(COLUMNS),
        "COOKIECUTTER_CONFIG": str(config),
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PS1": PROMPT,
        "TERM": "xterm-256color",
        "UV_NO_PROGRESS": "1",
        **variables,
    }
    with (
        closing(Terminal(["sh"], work, environment)) as first,
        closing(Terminal(["sh"], work, environment)) as second,
    ):
        for terminal in (first, second):
            terminal.wait_for(PROMPT)
        yield first, second


def run(terminal: Terminal, command: str, until: str) -> str:
    """Type a command, and return what is shown up to a text."""
    begin = len(terminal.shown)
    terminal.type(command)
    terminal.wait_for(until)
    return terminal.shown[begin:]


def happen(first: Terminal, second: Terminal, ports: tuple[int, int] = PORTS) -> str:
    """Let it happen, and return what the picture shows, with colours.

    Args:
        first: the terminal in which a project is generated and started.
        second: the one that asks it.
        ports: on which the service responds, and on which it says that it is ready.
    """
    greeting, readiness = f":{ports[0]}/greetings/Ada", f":{ports[1]}/readyz"
    # It is installed now: a download would be in the picture.
    subprocess.run([needs("uvx"), "cookiecutter", "--version"], capture_output=True, check=True)
    bake(first)
    run(first, "cd orders", PROMPT)
    run(first, "APP_LOG_FORMAT=text make run", "listening on")
    while first.shown.count(": ready") < PROCESSES:
        first.read()
    responses = [
        run(second, f"curl -s http://127.0.0.1{url}", PROMPT) for url in (readiness, greeting)
    ]
    first.wait_for("/greetings/Ada")
    first.wait_for("\n")
    shown = without_repetition(first.shown)
    first.press("\x03")
    first.wait_for(PROMPT)
    # Responses have no line end, so that the shell asks for the next command beside them.
    asked = "".join(PROMPT + response.removesuffix(PROMPT) + "\n" for response in responses)
    return f"{shown}\n{dim('# in another terminal')}\n{asked}"


def bake(terminal: Terminal) -> None:
    """Generate a project, with Enter for most questions."""
    terminal.type(f"uvx cookiecutter {ADDRESS}")
    for number, question in enumerate(questions(), 1):
        terminal.wait_for(f"[{number}/{len(questions())}] ")
        terminal.wait_for("): ")
        terminal.type(ANSWERS.get(question, ""))
    terminal.wait_for(f"\n{PROMPT}")


def without_repetition(shown: str) -> str:
    """Leave out the questions that make the picture long, and what each worker logs."""
    lines = [line for line in shown.splitlines() if " INFO " not in line or KEPT.search(line)]
    asked = [number for number, line in enumerate(lines) if f"/{len(questions())}]" in line]
    more = dim(f"  ... {len(asked) - SHOWN - 1} more questions, all answered with Enter")
    lines[asked[SHOWN] : asked[-1]] = [more]
    [listening] = [number for number, line in enumerate(lines) if "listening on" in line]
    lines.insert(listening + 1, dim("... and a line for each worker that gets ready"))
    return "\n".join(lines) + "\n"


def dim(text: str) -> str:
    """Mark what no terminal has shown."""
    return f"\033[2m{text}\033[0m"


def picture(shown: str) -> str:
    """Return what was shown as SVG."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="standard"
    )
    for line in Text.from_ansi(shown.replace("\r\n", "\n")).split("\n"):
        # As terminals do it: not at a space.
        for part in line.divide(range(COLUMNS, len(line), COLUMNS)):
            console.print(part)
    svg = console.export_svg(title="", theme=THEME, code_format=SVG, unique_id="shown")
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


def main() -> None:
    """Draw the picture."""
    for port in PORTS:
        if is_open(port):
            sys.exit(f"Port {port} is in use, and the picture shows that of the README.")
    with tempfile.TemporaryDirectory() as folder, shells(Path(folder)) as (first, second):
        PICTURE.write_text(picture(happen(first, second)), "utf-8")


if __name__ == "__main__":
    main()
