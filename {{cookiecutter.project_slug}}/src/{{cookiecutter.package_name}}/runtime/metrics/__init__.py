"""Metrics for Prometheus: request durations, the status of each worker, and your own metrics.

May import `extensions`, `http` and what is below them. Begin with `extension.Metrics`: everything
that plugs into the service is there. `shared` is the memory of several workers, `aggregate` adds
it up, `handler` is ``GET /metrics``.

Create a metric of your own once, at the top of the module that uses it, with `prometheus_client`.
Counters, histograms and summaries are summed over all workers; a gauge gets a label ``worker``
unless its `multiprocess_mode` is livesum, livemax or livemin. An extension creates its metrics in
its `lifespan`: what exists before the fork is not exported.

Not supported with several workers: `Info`, `Enum`, `set_function`, `remove`, the mode mostrecent,
exemplars, custom collectors, and metrics that a library creates on import. Changing the type of a
metric takes a new name or a restart.
"""

from .extension import Metrics

__all__ = ["Metrics"]
