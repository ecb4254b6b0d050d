"""Aggregate the samples of all workers."""

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


class SampleKey(NamedTuple):
    """Identity of a sample."""

    metric: str
    kind: str
    help: str
    mode: str
    """How gauges are aggregated: all, sum, max or min."""
    sample: str
    labels: Labels


@cache
def parse_key(text: bytes) -> SampleKey:
    """Parse a key that was written as JSON."""
    key = SampleKey(*json.loads(text))
    return key._replace(labels=tuple((label, value) for label, value in key.labels))


def aggregate(samples: Iterable[tuple[SampleKey, int, float]]) -> Iterator[Metric]:
    """Aggregate (key, worker, value) triples into metric families."""
    families: dict[str, Metric] = {}
    aggregated: defaultdict[str, Samples] = defaultdict(dict)
    for key, worker, value in samples:
        if key.metric not in families:
            families[key.metric] = Metric(key.metric, key.help, key.kind)
        family_samples = aggregated[key.metric]
        labels = (*key.labels, ("worker", str(worker))) if key.mode == "all" else key.labels
        before = family_samples.get((key.sample, labels))
        family_samples[key.sample, labels] = _combine(key.mode, before, value)
    for name, family in families.items():
        family_samples = aggregated[name]
        if family.type == "histogram":
            family_samples = _accumulate(name, family_samples)
        for (sample, labels), value in family_samples.items():
            family.add_sample(sample, dict(labels), value)
        yield family


def _combine(mode: str, before: float | None, value: float) -> float:
    if before is None or mode == "all":
        return value
    if mode == "max":
        return max(before, value)
    return min(before, value) if mode == "min" else before + value


def _accumulate(name: str, samples: Samples) -> Samples:
    """Make the buckets cumulative, as Prometheus expects."""
    cumulative: Samples = {}
    buckets = sorted(
        (labels[:-1], float(labels[-1][1]), labels, value)
        for (sample, labels), value in samples.items()
        if sample == f"{name}_bucket"
    )
    for other_labels, grouped in groupby(buckets, key=itemgetter(0)):
        group = list(grouped)
        if group[-1][1] < math.inf:
            continue  # incomplete: the shared memory was full
        count = 0.0
        for _, _, labels, value in group:
            count += value
            cumulative[f"{name}_bucket", labels] = count
        cumulative[f"{name}_count", other_labels] = count
        cumulative[f"{name}_sum", other_labels] = samples[f"{name}_sum", other_labels]
    return cumulative
