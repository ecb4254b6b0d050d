import pytest
from tornado.httputil import HTTPHeaders, HTTPInputError, HTTPServerRequest, RequestStartLine

from runtime.http import validation as strict

from .support import Client


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
def test_a_good_head_passes(host: str) -> None:
    strict.check_head(head(f"Host: {host}", "Accept: */*"))


@pytest.mark.parametrize(
    "bad",
    [
        head("Host: localhost").replace(b"localhost\r\n", b"localhost\n"),
        head("Host: localhost").replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
        head("Host: localhost", "X: a\rb"),
        head("Host: localhost", "X: a\n\rb"),
    ],
)
def test_cr_and_lf_alone_are_refused(bad: bytes) -> None:
    with pytest.raises(HTTPInputError, match="CR or LF alone"):
        strict.check_head(bad)


@pytest.mark.parametrize(
    "host", ["a:b", "a:8000x", f"a:{5000 * '9'}", "a b", "[::1", "[a]x", "a:1:2", "[zz]"]
)
def test_a_malformed_host_is_refused(host: str) -> None:
    for name in "Host", "HOST":
        with pytest.raises(HTTPInputError, match="malformed Host"):
            strict.check_head(head(f"{name}: {host}"))


@pytest.mark.parametrize("target", ["/", "/a/b", "/a?b=c&d", "/%C3%A9", "/~a/(b);c=1", "*"])
def test_a_good_target_passes(target: str) -> None:
    strict.check_request(request(target))


@pytest.mark.parametrize("target", ["/a#b", "/%", "/%zz", '/"', "/<a>", "/\xe9", "a", "/a\\b"])
def test_a_malformed_target_is_refused(target: str) -> None:
    with pytest.raises(HTTPInputError, match="malformed request target"):
        strict.check_request(request(target))


def test_a_transfer_encoding_is_for_http_1_1_only() -> None:
    strict.check_request(request(Transfer_Encoding="chunked"))
    with pytest.raises(HTTPInputError, match="Transfer-Encoding"):
        strict.check_request(request(version="HTTP/1.0", Transfer_Encoding="chunked"))


def test_a_malformed_origin_is_refused() -> None:
    strict.check_request(request(Origin="https://elsewhere.example"))
    with pytest.raises(HTTPInputError, match="malformed Origin"):
        strict.check_request(request(Origin="https://[elsewhere"))


@pytest.mark.parametrize(
    "bad",
    [
        "GET /a#b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\n\r\n",
    ],
)
async def test_what_is_refused_is_answered_400_and_ends_the_connection(
    client: Client, bad: str
) -> None:
    async with client.wire() as wire:
        wire.send(bad)
        assert (await wire.rest()).startswith(b"HTTP/1.1 400 ")
