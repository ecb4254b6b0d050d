"""Keeps the figures of the READMEs: they are those that `make bench` has measured last."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .figures import Row, format_value

FOLDER = Path(__file__).parents[1]
TABLE = re.compile(r"(<!-- make bench writes this table -->\n).*?(<!-- end -->\n)", re.DOTALL)


@dataclass(frozen=True)
class Readme:
    """A README and its language.

    Attributes:
        path: the file.
        heading: the words above the columns.
        what: what a row is, by its name, where the README does not use the row's own words.
    """

    path: Path
    heading: tuple[str, str, str]
    what: Mapping[str, str] = field(default_factory=dict)

    def table(self, rows: Iterable[Row], results: Mapping[str, Any]) -> str:
        """Return the rows that have been measured as Markdown, with the bounds to keep."""
        lines = [f"| {' | '.join(self.heading)} |", "|---|---|---|"]
        for row in rows:
            if row.name in results:
                what = self.what.get(row.name, row.what)
                median = format_value(results[row.name]["median"], row.unit)
                lines.append(f"| {what} | {median} | {row.describe_bound()} |")
        return "\n".join(lines) + "\n"

    def update(self, rows: Iterable[Row], results: Mapping[str, Any]) -> None:
        """Write the table into the file."""
        text = self.path.read_text("utf-8")
        new = self.table(rows, results)
        self.path.write_text(TABLE.sub(lambda found: found[1] + new + found[2], text), "utf-8")


ENGLISH = Readme(FOLDER / "README.md", ("measured side by side", "median", "must be"))
KOREAN = Readme(
    FOLDER / "README.ko.md",
    ("나란히 측정한 항목", "중앙값", "기준"),
    {
        "cpu-vs-tornado": "요청당 CPU 시간 / 기본 Tornado",
        "cpu-vs-fastapi": "요청당 CPU 시간 / FastAPI, uvicorn, 로그, Prometheus",
        "cpu-vs-aiohttp": "요청당 CPU 시간 / 접근 로그를 켠 aiohttp",
        "cpu-vs-tornado-logged": "요청당 CPU 시간 / 접근 로그를 켠 Tornado",
        "cpu-vs-litestar": "요청당 CPU 시간 / Litestar, uvicorn, 로그, Prometheus",
        "cpu-2-workers": "요청당 CPU 시간, 워커 2개 / 1개",
        "start": "시작부터 첫 응답까지 걸린 시간 / uvicorn --workers, FastAPI",
        "memory-4-workers": "워커 4개의 메모리(PSS) / uvicorn --workers, FastAPI",
        "nginx-balance": "Nginx 뒤에서 가장 한가한 워커의 요청 수 / 가장 바쁜 워커",
        "reload": "부하 중에 리로드하는 동안 실패한 요청",
        "generation": "프로젝트 생성 시간 / 파일이 하나뿐인 템플릿",
        "project-tests": "설치를 마친 프로젝트의 `make test`",
        "ci-run": "템플릿의 `.ci/run`",
    },
)
READMES = [ENGLISH, KOREAN]
