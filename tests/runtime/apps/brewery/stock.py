"""A module with a metric that the package imports, and with it the supervisor."""

from prometheus_client import Counter

LEAVES = Counter("brewed_leaves", "Leaves of tea.")
