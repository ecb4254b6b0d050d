"""A collector of spans, in the event loop of the test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler


class FakeCollector:
    """Receives spans over HTTP at ``/base/v1/traces``, as a test lets it."""

    def __init__(self) -> None:
        self.status = 200
        self.responds = asyncio.Event()
        """While it is not set, requests get no response."""
        self.responds.set()
        self.requests = 0
        self.authorization: list[str] = []
        """The header of each request that succeeded."""
        self.spans: list[str] = []
        """The names of the spans."""
        self.url = ""


class TracesHandler(RequestHandler):
    """``POST /base/v1/traces``"""

    def initialize(self, collector: FakeCollector) -> None:
        self._collector = collector

    async def post(self) -> None:
        self._collector.requests += 1
        await self._collector.responds.wait()
        self.set_status(self._collector.status)
        if self._collector.status == 200:
            self._collector.authorization.append(self.request.headers.get("Authorization", ""))
            message = ExportTraceServiceRequest.FromString(self.request.body)
            self._collector.spans += [
                span.name
                for resource in message.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]


@asynccontextmanager
async def running_collector() -> AsyncIterator[FakeCollector]:
    """Run a collector on a free port."""
    collector = FakeCollector()
    server = HTTPServer(Application([("/base/v1/traces", TracesHandler, {"collector": collector})]))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    collector.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/base/"
    try:
        yield collector
    finally:
        collector.responds.set()
        server.stop()
        await server.close_all_connections()
