"""Which code runs: of the service, and of the template that this runtime comes from."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ServiceInfo:
    """What a service is called, and which code of it a process runs."""

    name: str
    """The command, such as ``my-orders``."""
    version: str
    revision: str = ""
    """The revision of the code, such as ``v1.2.0-3-g1234567``; empty if it is unknown."""

    def __str__(self) -> str:
        revision = f", revision {self.revision}" if self.revision else ""
        return f"{self.name} {self.version}{revision}"


def template_version() -> str:
    """Return the version of the runtime on disk."""
    return Path(__file__).with_name("VERSION").read_text("utf-8").strip()
