"""Which files of the runtime differ from those that the template delivered.

``python -m <package>.runtime.checksums`` names the files that were changed by hand. The runtime
uses it, too, to notice a new version on disk while it runs.
"""

import hashlib
from pathlib import Path

RUNTIME = Path(__file__).parent
SUMS = "SHA256SUMS"
"""Has the format of ``sha256sum``: one line for each file, with its path below the runtime."""


def checksums(folder: Path = RUNTIME) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, by path; empty if it cannot be read."""
    return {
        path.relative_to(folder).as_posix(): _checksum(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != SUMS and "__pycache__" not in path.parts
    }


def _checksum(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:  # no permission, or it is being replaced just now
        return ""


def delivered(folder: Path = RUNTIME) -> dict[str, str]:
    """Return the checksums in `SUMS`, by path. Raises `OSError`."""
    lines = (folder / SUMS).read_text("utf-8").splitlines()
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines)}


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the paths that were changed, added or removed."""
    return sorted(
        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    )


def changed_by_hand(folder: Path = RUNTIME) -> list[str]:
    """Return the files that are not as delivered. A room that was not chosen is no difference."""
    expected = {
        path: digest
        for path, digest in delivered(folder).items()
        if "/" not in path or (folder / path.partition("/")[0]).is_dir()
    }
    return differences(expected, checksums(folder))


def main(folder: Path = RUNTIME) -> None:
    """Print which files were changed by hand. That is allowed, so it is not an error."""
    for path in changed_by_hand(folder):
        print(f"runtime/{path} is not as delivered: see runtime/README.md before you update")


if __name__ == "__main__":
    main()
