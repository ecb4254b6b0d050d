"""What all workers have measured, in memory that they share and that outlives each of them.

prometheus_client keeps a number, such as a counter or a bucket of a histogram, in an object of its
`ValueClass`. Here that is a cell of a shared page, and each row of the scoreboard has a page: its
next process goes on where the last one ended, however it ended. So the sums over all pages are
exact and never fall, and there are only as many pages as there can be processes. No file is
involved, so no disk that is full either.
"""

from __future__ import annotations

import json
import logging
import math
import mmap
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from threading import RLock

from prometheus_client import REGISTRY, Metric, values
from prometheus_client.registry import Collector

from .merge import Key, merge, read_key
from ..workers.scoreboard import ADMIN, WORD, Row, Scoreboard

# Bytes of a page, which become real memory only as they are used. A number takes some 300, and a
# combination of method, route and status 16 numbers: there is room for more than 1,500 of these.
SIZE = 1 << 23

logger = logging.getLogger(__name__)


class Page:
    """Numbers with their keys, which only ever become more. One process writes, others read."""

    def __init__(self, size: int = SIZE) -> None:
        self._memory = mmap.mmap(-1, size)
        self._words = memoryview(self._memory).cast("q")
        self.numbers = memoryview(self._memory).cast("d")

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        """Go through the keys and the places of their numbers."""
        place = 1
        while place < self._words[0]:
            start, length = (place + 2) * WORD, self._words[place + 1]
            yield self._memory[start : start + length], place
            place += 2 + -(-length // WORD)

    def add(self, key: bytes) -> int:
        """Make room for one more number, 0, and return its place; 0 if there is none."""
        place = self._words[0] or 1
        end = place + 2 + -(-len(key) // WORD)
        if end > len(self._words):
            return 0
        self.numbers[place] = 0.0
        self._words[place + 1] = len(key)
        self._memory[(place + 2) * WORD : (place + 2) * WORD + len(key)] = key
        # Now that it is complete: a process may die at any point.
        self._words[0] = end
        return place


class Numbers:
    """The page of a process, for that process to write."""

    def __init__(self, page: Page) -> None:
        # Reentrant, for a handler of log records may count those of `cell`.
        self.lock = RLock()
        self._page = page
        self._places = dict(page)
        self._full = False
        for key, place in page:
            if read_key(key).kind == "gauge":
                # Its predecessor's: that is no more.
                page.numbers[place] = math.nan

    def cell(self, key: Key) -> tuple[memoryview[float], int]:
        """Find the cell of a number: where it is, and its place there."""
        name = json.dumps(key, ensure_ascii=False).encode()
        place = self._places.get(name) or self._page.add(name)
        if not place:
            if not self._full:
                self._full = True
                logger.error(
                    "no room for more labels: new ones, now of %s, do not count before a restart",
                    key.metric,
                )
            return memoryview(bytearray(WORD)).cast("d"), 0
        self._places[name] = place
        return self._page.numbers, place


class SharedValue:
    """What prometheus_client wants as `ValueClass`."""

    def __init__(
        self,
        numbers: Numbers,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Collection[str],
        labelvalues: Iterable[str],
        help_text: str,
        multiprocess_mode: str = "",
        **others: object,
    ) -> None:
        mode = multiprocess_mode.removeprefix("live")
        if mode not in ("", "all", "sum", "max", "min"):
            raise ValueError(f"{metric_name}: {multiprocess_mode} is not for several workers")
        labels = tuple(zip(labelnames, labelvalues, strict=True))
        if mode == "all" and "worker" in labelnames:
            raise ValueError(f"{metric_name}: the label worker is taken")
        self._lock = numbers.lock
        with self._lock:
            key = Key(metric_name, typ, help_text, mode, name, labels)
            self._cells, self._place = numbers.cell(key)
            if math.isnan(self._cells[self._place]):
                self._cells[self._place] = 0.0

    def inc(self, amount: float) -> None:
        with self._lock:
            self._cells[self._place] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        with self._lock:
            self._cells[self._place] = value

    def get(self) -> float:
        return self._cells[self._place]

    def set_exemplar(self, exemplar: object) -> None:
        """Exemplars are not shared."""

    def get_exemplar(self) -> None:
        """Exemplars are not shared."""


class SharedValues(Collector):
    """The pages of all rows of a scoreboard."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self._pages = [(row, Page()) for row in scoreboard.rows]
        # The library's own are not missed.
        names = sorted({one.name for one in REGISTRY.collect()})
        if early := [name for name in names if not name.startswith(("process_", "python_"))]:
            logger.warning("metrics made before the workers, so not shown: %s", ", ".join(early))

    def attach(self, row: Row) -> None:
        """Keep what this process measures, from now on, in the page of its row.

        To be called before the first metric is made.
        """
        [page] = [page for one, page in self._pages if one is row]
        values.ValueClass = partial(SharedValue, Numbers(page))

    def collect(self) -> Iterator[Metric]:
        """Add up what the workers have measured. None of them is asked, so none has to wait."""
        return merge(self._numbers())

    def _numbers(self) -> Iterator[tuple[Key, int, float]]:
        # Always in the same order: in another one a sum of fractions may be rounded to less.
        for row, page in self._pages:
            for entry, place in page:
                if (key := read_key(entry)).kind != "gauge":
                    yield key, row.slot, page.numbers[place]
        # While a worker is renewed there are two; whoever comes last here is the one that counts.
        for row, page in sorted(self._pages, key=lambda pair: not pair[0].draining):
            if row.slot != ADMIN and (row.ready or row.draining):
                for entry, place in page:
                    number = page.numbers[place]
                    if (key := read_key(entry)).kind == "gauge" and not math.isnan(number):
                        yield key, row.slot, number
