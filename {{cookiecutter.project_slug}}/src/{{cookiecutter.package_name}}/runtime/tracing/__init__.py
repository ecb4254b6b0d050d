"""Traces with OpenTelemetry: a span for each request and for each call that its handler makes.

May import `extensions`, `http` and what is below them. Begin with `extension.Tracing`: everything
that plugs into the service is there. `client` traces outgoing calls, `exporter` sends the spans.
"""

from .extension import Tracing

__all__ = ["Tracing"]
