"""Connections on which a test chooses every byte."""

import asyncio
import socket
import struct
from dataclasses import dataclass
from http.client import parse_headers
from io import BytesIO
from typing import Any, Self

import orjson
from runtime.testing import WAIT_TIMEOUT
from tornado.httputil import HTTPHeaders
from tornado.websocket import WebSocketClientConnection


@dataclass(frozen=True)
class RawResponse:
    """A response on a `RawConnection`."""

    status: int
    headers: HTTPHeaders
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


class RawConnection:
    """A TCP connection to a service."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._writer.close()
        await asyncio.gather(self._writer.wait_closed(), return_exceptions=True)

    def send(self, data: str | bytes) -> None:
        self._writer.write(data.encode() if isinstance(data, str) else data)

    def send_get(self, path: str = "/", **headers: str) -> None:
        """Send a GET request without waiting for the response."""
        lines = {"Host": "localhost"} | {name.replace("_", "-"): v for name, v in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.send(f"GET {path} HTTP/1.1\r\n{head}\r\n")

    async def response(self) -> RawResponse:
        async with asyncio.timeout(WAIT_TIMEOUT):
            head = await self._reader.readuntil(b"\r\n\r\n")
            start, _, lines = head.partition(b"\r\n")
            headers = HTTPHeaders(dict(parse_headers(BytesIO(lines))))
            body = await self._reader.readexactly(int(headers.get("Content-Length", "0")))
        return RawResponse(int(start.split()[1]), headers, body)

    async def read_until(self, end: bytes) -> bytes:
        """Return what arrives up to `end`, with it."""
        async with asyncio.timeout(WAIT_TIMEOUT):
            return await self._reader.readuntil(end)

    async def get(self, path: str = "/", **headers: str) -> RawResponse:
        self.send_get(path, **headers)
        return await self.response()

    def abort(self) -> None:
        """Close with a reset, so that the other end sees at once that nobody is there."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
        self._writer.transport.abort()

    def send_eof(self) -> None:
        """Close the sending side: no more requests will come."""
        self._writer.write_eof()

    async def read_to_end(self) -> bytes:
        """Return what arrives until the other end closes."""
        async with asyncio.timeout(WAIT_TIMEOUT):
            return await self._reader.read()


async def close(websocket: WebSocketClientConnection, code: int = 1000) -> None:
    """Close a WebSocket and wait for the end of it."""
    websocket.close(code)
    assert await websocket.read_message() is None
