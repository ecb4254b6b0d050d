"""Requests that HTTP forbids and Tornado accepts."""

import pytest
from runtime.http.validation import check_head, check_request
from runtime.testing import Client, Record
from tornado.httputil import HTTPHeaders, HTTPInputError, HTTPServerRequest, RequestStartLine

from ..support.connections import RawConnection


def head(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in ("GET / HTTP/1.1", *lines, "")).encode("latin-1")


def request(target: str = "/", version: str = "HTTP/1.1", **headers: str) -> HTTPServerRequest:
    fields = HTTPHeaders({"Host": "localhost"})
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    start_line = RequestStartLine("GET", target, version)
    return HTTPServerRequest(headers=fields, start_line=start_line)


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "[2001:DB8::5]", "", "a.b:"],
)
def test_valid_head_passes(host: str) -> None:
    check_head(head(f"Host: {host}", "Accept: */*"))


@pytest.mark.parametrize(
    "bad",
    [
        head("Host: localhost").replace(b"localhost\r\n", b"localhost\n"),
        head("Host: localhost").replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
        head("Host: localhost", "X: a\rb"),
        head("Host: localhost", "X: a\n\rb"),
    ],
)
def test_bare_cr_and_lf_are_rejected(bad: bytes) -> None:
    with pytest.raises(HTTPInputError, match="bare CR or LF"):
        check_head(bad)


@pytest.mark.parametrize(
    "host", ["a:b", "a:8000x", f"a:{5000 * '9'}", "a b", "[::1", "[a]x", "a:1:2", "[zz]"]
)
def test_malformed_host_is_rejected(host: str) -> None:
    for name in "Host", "HOST":
        with pytest.raises(HTTPInputError, match="malformed Host"):
            check_head(head(f"{name}: {host}"))


@pytest.mark.parametrize("target", ["/", "/a/b", "/a?b=c&d", "/%C3%A9", "/~a/(b);c=1", "*"])
def test_valid_target_passes(target: str) -> None:
    check_request(request(target))


@pytest.mark.parametrize("target", ["/a#b", "/%", "/%zz", '/"', "/<a>", "/\xe9", "a", "/a\\b"])
def test_malformed_target_is_rejected(target: str) -> None:
    with pytest.raises(HTTPInputError, match="malformed request target"):
        check_request(request(target))


def test_transfer_encoding_is_rejected_in_http_1_0() -> None:
    check_request(request(Transfer_Encoding="chunked"))
    with pytest.raises(HTTPInputError, match="Transfer-Encoding"):
        check_request(request(version="HTTP/1.0", Transfer_Encoding="chunked"))


def test_malformed_origin_is_rejected() -> None:
    check_request(request(Origin="https://elsewhere.example"))
    with pytest.raises(HTTPInputError, match="malformed Origin"):
        check_request(request(Origin="https://[elsewhere"))


@pytest.mark.parametrize(
    "bad",
    [
        "GET /a#b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\n\r\n",
    ],
)
async def test_rejected_request_gets_400_and_closes_the_connection(
    client: Client, log_records: list[Record], bad: str
) -> None:
    async with RawConnection(client.port) as connection:
        connection.send(bad)
        assert (await connection.read_to_end()).startswith(b"HTTP/1.1 400 ")
    assert not client.app.connections.in_flight
    assert not [record for record in log_records if record["level"] == "error"]
