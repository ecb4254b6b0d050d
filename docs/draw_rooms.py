"""Draw the imports between the rooms of the runtime, as Mermaid, into its README.

``make rooms`` runs this; a test fails when the picture is not that of the code.
"""

import re
import sys
from pathlib import Path

import grimp

TREE = Path(__file__).parents[1] / "{{cookiecutter.project_slug}}"
SOURCE = TREE / "src/{{cookiecutter.package_name}}"
README = SOURCE / "runtime/README.md"
PICTURE = re.compile(r"```mermaid\n.*?```\n", re.DOTALL)

BASE = {"checksums", "cpus", "errors", "readable", "settings", "starting", "status", "version"}
"""Modules that import no room. They are one box in the picture, or it would be a web."""
OMITTED = {"feature", "testing"}
"""For development only: not parts of a running service."""
PUBLIC = "runtime"
"""The public interface imports from everywhere."""


def rooms() -> dict[str, set[str]]:
    """Return which room imports which, over all their modules."""
    graph = grimp.build_graph("runtime", cache_dir=None)
    imports: dict[str, set[str]] = {}
    for module in graph.modules - {PUBLIC}:
        importer = _room(module)
        imports.setdefault(importer, set())
        for imported in graph.find_modules_directly_imported_by(module):
            imports[importer].add(_room(imported))
    for room in OMITTED:
        imports.pop(room, None)
    return {room: imported - {room} for room, imported in imports.items()}


def reduced(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Leave out an arrow where a longer way leads to the same room."""

    def reachable(room: str) -> set[str]:
        return imports[room].union(*map(reachable, imports[room]))

    return {
        room: imported - set().union(*map(reachable, imported))
        for room, imported in imports.items()
    }


def picture() -> str:
    """Return the picture as a block of Mermaid."""
    lines = ["```mermaid", "flowchart TD"]
    for room, imported in sorted(reduced(rooms()).items()):
        lines += [f"    {room} --> {other}" for other in sorted(imported)]
    base = ", ".join(sorted(BASE))
    lines.append(f'    base["{base}"]')
    return "\n".join([*lines, "```", ""])


def _room(module: str) -> str:
    name = module.split(".")[1]
    return "base" if name in BASE else name


def main() -> None:
    """Replace the picture in the README."""
    text, count = PICTURE.subn(lambda _: picture(), README.read_text("utf-8"))
    if count != 1:
        sys.exit(f"{README.name} has {count} pictures, not one")
    README.write_text(text, "utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(SOURCE))
    main()
