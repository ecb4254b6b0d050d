"""Metric values in shared memory that outlives the workers.

prometheus_client keeps a number, such as a counter or a bucket of a histogram, in an object of its
`ValueClass`. Here that is a cell of a shared page, and each row of the scoreboard has a page: the
next process in a row continues its counters, however the last one exited. So the sums over all
pages are exact and never fall, and there are only as many pages as there can be processes. No file
is involved, so no full disk either.
"""

import json
import logging
import math
import mmap
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from threading import RLock

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Metric,
    values,
)
from prometheus_client.registry import Collector

from ..status import ADMIN_SLOT, ProcessRow
from .aggregate import SampleKey, aggregate, parse_key

PAGE_SIZE = 1 << 23
"""Bytes, which become real memory only as they are used.

A number takes some 300 of them, and a combination of method, route and status takes 16 numbers:
there is room for more than 1,500 of these.
"""
WORD_SIZE = 8
"""Bytes of a number."""
DEFAULT_COLLECTORS = (GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR)

logger = logging.getLogger(__name__)


class Page:
    """Append-only map of keys to numbers. One process writes, others read."""

    def __init__(self, size: int = PAGE_SIZE) -> None:
        self._memory = mmap.mmap(-1, size)
        self._words = memoryview(self._memory).cast("q")
        self.numbers = memoryview(self._memory).cast("d")

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        """Yield the keys and the indexes of their numbers."""
        index = 1
        while index < self._words[0]:
            start, length = (index + 2) * WORD_SIZE, self._words[index + 1]
            yield self._memory[start : start + length], index
            index += 2 + _words(length)

    def add(self, key: bytes) -> int:
        """Append a key with value 0 and return its index; 0 if the page is full."""
        index = self._words[0] or 1
        end = index + 2 + _words(len(key))
        if end > len(self._words):
            return 0
        start = (index + 2) * WORD_SIZE
        self.numbers[index] = 0.0
        self._words[index + 1] = len(key)
        self._memory[start : start + len(key)] = key
        # Published last: the process may be killed at any point.
        self._words[0] = end
        return index


def _words(size: int) -> int:
    """Return how many words hold `size` bytes."""
    return -(-size // WORD_SIZE)


class PageWriter:
    """Write access to the page of this process."""

    def __init__(self, page: Page) -> None:
        # Reentrant: a log handler may increment a counter while `cell` logs.
        self.lock = RLock()
        self._page = page
        self._indexes = dict(page)
        self._is_full = False
        for key, index in page:
            if parse_key(key).kind == "gauge":
                # Gauges of the previous process are void.
                page.numbers[index] = math.nan

    def cell(self, key: SampleKey) -> "tuple[memoryview[float], int]":
        """Return the cell of a number: the memory, and the index in it."""
        name = json.dumps(key, ensure_ascii=False).encode()
        index = self._indexes.get(name) or self._page.add(name)
        if not index:
            if not self._is_full:
                self._is_full = True
                logger.error(
                    "shared metrics memory is full: new label values of %s are not counted until"
                    " a restart",
                    key.metric,
                )
            return memoryview(bytearray(WORD_SIZE)).cast("d"), 0
        self._indexes[name] = index
        return self._page.numbers, index


class SharedValue:
    """A prometheus_client `ValueClass` in shared memory."""

    def __init__(
        self,
        writer: PageWriter,
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
            raise ValueError(
                f"{metric_name}: {multiprocess_mode} is not supported with several workers"
            )
        labels = tuple(zip(labelnames, labelvalues, strict=True))
        if mode == "all" and "worker" in labelnames:
            raise ValueError(f"{metric_name}: the label 'worker' is reserved")
        self._lock = writer.lock
        with self._lock:
            key = SampleKey(metric_name, typ, help_text, mode, name, labels)
            self._cells, self._index = writer.cell(key)
            if math.isnan(self._cells[self._index]):
                self._cells[self._index] = 0.0

    def inc(self, amount: float) -> None:
        with self._lock:
            self._cells[self._index] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        with self._lock:
            self._cells[self._index] = value

    def get(self) -> float:
        return self._cells[self._index]

    def set_exemplar(self, exemplar: object) -> None:
        """Exemplars are not shared."""

    def get_exemplar(self) -> None:
        """Exemplars are not shared."""


class SharedMetrics(Collector):
    """The pages of all rows of the scoreboard."""

    def __init__(self, rows: Sequence[ProcessRow], registry: CollectorRegistry) -> None:
        self._pages = [(row, Page()) for row in rows]
        self._registry = registry

    def attach(self, row: ProcessRow) -> None:
        """Keep what this process measures, from now on, in the page of its row.

        Call it before the first metric is created.
        """
        [page] = [page for owner, page in self._pages if owner is row]
        values.ValueClass = partial(SharedValue, PageWriter(page))
        # What a module of the service has created already, it creates again: it is imported anew.
        self._early = self._collectors()
        for collector in self._early:
            self._registry.unregister(collector)

    def created_before_fork(self) -> list[str]:
        """Return the names of metrics that only exist because they were created before the fork.

        They are not exported. Call it when the modules of the service have been imported.
        """
        return sorted(_names(self._early) - _names(self._collectors()))

    def _collectors(self) -> list[Collector]:
        """List the collectors in the registry, without the library's default ones."""
        collectors = self._registry._collector_to_names
        return [collector for collector in collectors if collector not in DEFAULT_COLLECTORS]

    def collect(self) -> Iterator[Metric]:
        """Aggregate all pages, without contacting the workers."""
        return aggregate(self._samples())

    def _samples(self) -> Iterator[tuple[SampleKey, int, float]]:
        # Always in the same order: in another one a sum of fractions may be rounded to less.
        for row, page in self._pages:
            for entry, index in page:
                if (key := parse_key(entry)).kind != "gauge":
                    yield key, row.slot, page.numbers[index]
        # During a reload a worker has two rows; the last one wins.
        for row, page in sorted(self._pages, key=lambda pair: not pair[0].draining):
            if row.slot != ADMIN_SLOT and (row.ready or row.draining):
                yield from _gauges(row.slot, page)


def _names(collectors: Iterable[Collector]) -> set[str]:
    return {family.name for collector in collectors for family in collector.collect()}


def _gauges(slot: int, page: Page) -> Iterator[tuple[SampleKey, int, float]]:
    for entry, index in page:
        value = page.numbers[index]
        if (key := parse_key(entry)).kind == "gauge" and not math.isnan(value):
            yield key, slot, value
