"""Of the numbers that several workers have measured make the metrics of the service."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from prometheus_client import Metric

Labels = tuple[tuple[str, str], ...]
Samples = dict[tuple[str, Labels], float]


class Key(NamedTuple):
    """What a number is."""

    metric: str
    kind: str
    help: str
    mode: str
    """What becomes of the gauges of several workers: they are listed, added up or compared."""
    sample: str
    labels: Labels


@cache
def read_key(text: bytes) -> Key:
    """Read a key that was written as JSON."""
    key = Key(*json.loads(text))
    return key._replace(labels=tuple((label, value) for label, value in key.labels))


def merge(numbers: Iterable[tuple[Key, int, float]]) -> Iterator[Metric]:
    """Merge numbers that come with their keys and their workers."""
    families: dict[str, Metric] = {}
    merged: defaultdict[str, Samples] = defaultdict(dict)
    for key, worker, number in numbers:
        if key.metric not in families:
            families[key.metric] = Metric(key.metric, key.help, key.kind)
        samples = merged[key.metric]
        labels = (*key.labels, ("worker", str(worker))) if key.mode == "all" else key.labels
        known = samples.get((key.sample, labels))
        samples[key.sample, labels] = _combine(key.mode, known, number)
    for name, family in families.items():
        samples = merged[name]
        if family.type == "histogram":
            samples = _accumulate(name, samples)
        for (sample, labels), number in samples.items():
            family.add_sample(sample, dict(labels), number)
        yield family


def _combine(mode: str, known: float | None, number: float) -> float:
    if known is None or mode == "all":
        return number
    if mode == "max":
        return max(known, number)
    return min(known, number) if mode == "min" else known + number


def _accumulate(name: str, samples: Samples) -> Samples:
    """Make of buckets that count for themselves those that include all smaller ones."""
    complete: Samples = {}
    buckets = sorted(
        (labels[:-1], float(labels[-1][1]), labels, number)
        for (sample, labels), number in samples.items()
        if sample == f"{name}_bucket"
    )
    for others, grouped in groupby(buckets, key=itemgetter(0)):
        group = list(grouped)
        if group[-1][1] < math.inf:
            continue  # there was no room for all of them
        count = 0.0
        for _, _, labels, number in group:
            count += number
            complete[f"{name}_bucket", labels] = count
        complete[f"{name}_count", others] = count
        complete[f"{name}_sum", others] = samples[f"{name}_sum", others]
    return complete
