"""Numbers as a person reads them."""

UNITS_OF_TIME = ("d", 86400), ("h", 3600), ("min", 60), ("s", 1)
UNITS_OF_SIZE = ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)


def format_age(seconds: float) -> str:
    """Return a duration in its two largest units, such as ``2 h 3 min``."""
    rest, parts = int(seconds), list[str]()
    for unit, size in UNITS_OF_TIME:
        count, rest = divmod(rest, size)
        if count or parts or unit == "s":
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def format_size(size: int) -> str:
    """Return a number of bytes in its largest unit, such as ``61.2 MiB``."""
    for unit, count in UNITS_OF_SIZE:
        if size >= count:
            return f"{size / count:.1f} {unit}"
    return f"{size} B"
