"""The picture in the READMEs is what happens."""

import re
from pathlib import Path

from docs.draw_terminal import PICTURE, happen, picture, shells

from ..ports import free_ports
from ..tools import needs


def without_numbers(svg: str) -> str:
    """Replace what is another one in each run, and where it changes the length of a line."""
    numbers = r"\d{4}-\d\d-\d\dT[\d:.]+Z|(?<=\[)\d+(?=\]:)|(?<=:)\d{4,5}\b|\b[0-9a-f]{32}\b"
    text = re.sub(r"<[^>]*>|\n", "", svg[svg.index("</defs>") :])
    return re.sub(numbers + r"|(?<=duration_ms=)[\d.]+", "", text)


def test_picture_is_what_happens(tmp_path: Path) -> None:
    needs("curl")
    port, admin_port = free_ports(2)
    variables = {"APP_PORT": str(port), "APP_ADMIN_PORT": str(admin_port)}
    with shells(tmp_path, **variables) as (first, second):
        happened = picture(happen(first, second, (port, admin_port)))
    drawn = PICTURE.read_text("utf-8")
    assert without_numbers(happened) == without_numbers(drawn), "run make picture"
