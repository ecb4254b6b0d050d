"""Counts responses and how long they took, at the cost of a few additions for each."""

from bisect import bisect_right
from collections.abc import Sequence

SMALLEST_BOUND = 0.0001
"""Seconds: the upper bound of the first bucket."""
BUCKETS_PER_OCTAVE = 4
OCTAVES = 20
"""Times that the bounds double: the last one is about 100 seconds."""
BOUNDS = tuple(
    SMALLEST_BOUND * 2 ** (index / BUCKETS_PER_OCTAVE)
    for index in range(OCTAVES * BUCKETS_PER_OCTAVE + 1)
)
"""Upper bounds of the buckets, in seconds. Each is 19 % above the one before."""

CLASSES = 10
"""Cells before the buckets: responses by the first digit of their status, 0 to 9."""
SERVER_ERRORS = 5
"""The lowest of these digits that is an error."""
SIZE = CLASSES + len(BOUNDS) + 1
"""Cells of the statistics of a process: classes, buckets, and one for what takes longer."""

Cells = Sequence[int]
"""The numbers of `SIZE` cells, of one process or summed over several."""


class RequestStatistics:
    """The responses of a process. `cells` are its own, or shared memory of `SIZE` numbers.

    They never fall: the next process that has the same cells goes on where this one has ended.
    """

    def __init__(self, cells: "memoryview[int] | None" = None) -> None:
        self.cells = memoryview(bytearray(8 * SIZE)).cast("q") if cells is None else cells

    def record(self, status: int, seconds: float) -> None:
        """Count a response."""
        cells = self.cells
        cells[status // 100] += 1
        cells[CLASSES + bisect_right(BOUNDS, seconds)] += 1


def responses(cells: Cells) -> int:
    """Return the number of responses."""
    return sum(cells[:CLASSES])


def errors(cells: Cells) -> int:
    """Return the number of responses with a status of 500 or above."""
    return sum(cells[SERVER_ERRORS:CLASSES])


def quantile(cells: Cells, share: float) -> float | None:
    """Return the seconds within which a share of the responses ended, such as 0.99.

    None without responses. The error is at most half a bucket, 10 %.
    """
    counts = cells[CLASSES:]
    total = sum(counts)
    if not total:
        return None
    rank = share * total
    reached = 0
    for index, count in enumerate(counts):
        reached += count
        if count and reached >= rank:
            upper = BOUNDS[min(index, len(BOUNDS) - 1)]
            lower = BOUNDS[index - 1] if index else 0.0
            # Not interpolated: wherever in the bucket they are, the middle is at most 10 % off.
            return (lower + upper) / 2
    return BOUNDS[-1]
