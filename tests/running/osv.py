"""Stands in for the service that knows the vulnerabilities of packages (https://osv.dev)."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What the service knows of a package, in its format.
ENTRY = {
    "id": "GHSA-xxxx-xxxx-xxxx",
    "summary": "Its requests can be smuggled.",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "tornado"},
            "ranges": [
                {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]},
            ],
        }
    ],
}


class Osv:
    """A service that is asked for one package after the other."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1/query"
        self.asked: dict[str, str] = {}
        """The versions of the packages that it was asked for."""
        self.vulnerable: set[str] = set()
        self.status = 200


@contextlib.contextmanager
def osv() -> Iterator[Osv]:
    """Start a service that knows of no vulnerability, unless it is told."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = query["package"]["name"]
            service.asked[name] = query["version"]
            answer = {"vulns": [ENTRY]} if name in service.vulnerable else {}
            body = json.dumps(answer).encode()
            self.send_response(service.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service = Osv(server.server_port)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
