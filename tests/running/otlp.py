"""A small collector: it takes spans over HTTP (OTLP) and prints each as a line of JSON.

A script for the Python of a project with traces, which has what decodes them. Its argument is the
status that it answers, or `silence` if it never does.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

LOCK = threading.Lock()


def say(**line: object) -> None:
    with LOCK:
        print(json.dumps(line), flush=True)


def values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


class Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if sys.argv[1] == "silence":
            say(path=self.path)
            threading.Event().wait()
        if sys.argv[1] == "200":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                who = values(resource.resource.attributes)
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        say(
                            service=who["service.name"],
                            process=who["service.instance.id"],
                            name=span.name,
                            kind=span.SpanKind.Name(span.kind),
                            trace=span.trace_id.hex(),
                            span=span.span_id.hex(),
                            parent=span.parent_span_id.hex(),
                            error=span.status.code == span.status.STATUS_CODE_ERROR,
                            attributes=values(span.attributes),
                            seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                        )
        else:
            say(path=self.path)
        self.send_response(int(sys.argv[1]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *message: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    say(port=server.server_port)
    server.serve_forever()
