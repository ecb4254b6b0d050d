"""What every benchmark gets: how much to measure, the projects, and where progress is shown."""

import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from .environments import FOLDER, bake
from .process import install
from .servers import PEERS, Server, the_service


@dataclass(frozen=True)
class Effort:
    """How much is measured: enough for a figure, or just so much that everything has run."""

    rounds: int = 12
    """Pairs of short loads."""
    starts: int = 9
    """How often something is started, generated or tested."""
    requests: int = 100_000
    """Requests during which the service is reloaded."""
    reloads: int = 10
    faults: int = 10
    """How often each fault is caused."""

    @classmethod
    def quick(cls) -> "Effort":
        return cls(rounds=2, starts=1, requests=4_000, reloads=1, faults=1)


class Progress:
    """Shows how far it is: on a terminal in one line that changes, elsewhere not at all."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{text:<{len(self._shown)}}", end="", file=sys.stderr, flush=True)
            self._shown = text

    def clear(self) -> None:
        self.show("")
        self.show("")
        self._shown = ""
        if sys.stderr.isatty():
            print("\r", end="", file=sys.stderr, flush=True)


@dataclass
class Bench:
    """The surroundings of a benchmark."""

    effort: Effort
    progress: Progress = field(default_factory=Progress)

    @cached_property
    def project(self) -> Path:
        """A project with the default answers, as it is generated."""
        self.progress.show("generating a project")
        return bake("default")

    @cached_property
    def service(self) -> Server:
        return the_service(self.project)

    @cached_property
    def extended_service(self) -> Server:
        """The service with the routes of `peers/service_app.py`."""
        project = bake("extended")
        [app] = project.glob("src/*/app.py")
        app.write_text((PEERS / "service_app.py").read_text("utf-8"), "utf-8")
        return the_service(project)

    def install(self, *servers: Server) -> None:
        """Install the environments of servers, those that are not there yet."""
        self.progress.show("installing " + ", ".join(server.name for server in servers))
        install(*servers, project=self.project)

    @property
    def folder(self) -> Path:
        """Where benchmarks write what they need."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        return FOLDER
