"""A module with metrics at its top."""

from prometheus_client import Counter, Gauge

CUPS = Counter("brewed_cups", "Cups of tea.")
BREWER = Gauge("brewer_pid", "Process id of the worker.")

MAX_CUPS = 3
