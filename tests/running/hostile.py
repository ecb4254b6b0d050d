"""Malformed and hostile messages, each with what has to become of it. Data only."""

import gzip
import struct
from dataclasses import dataclass

CLOSED = 0
"""Instead of a status: the connection is closed without an answer."""

LIMIT = 1024 * 1024
"""The service's default limit for bodies and WebSocket messages."""

MASK = b"\x01\x02\x03\x04"


@dataclass(frozen=True)
class Message:
    """What is sent on one connection, and how it may be refused."""

    name: str
    data: bytes
    expect: tuple[int, ...] = (400,)
    first: tuple[int, ...] = ()
    """Statuses of the answers to what comes before it on the same connection."""
    half_close: bool = False
    """The message lacks its end; the client says that nothing more will come."""


def get(*lines: str | bytes, method: str = "GET", target: str = "/", end: bytes = b"") -> bytes:
    """Build a request with a Host from raw header lines."""
    return head(f"{method} {target} HTTP/1.1", "Host: localhost", *lines) + end


def head(*lines: str | bytes) -> bytes:
    """Build a header block from raw lines."""
    raw = [line.encode("latin-1") if isinstance(line, str) else line for line in lines]
    return b"\r\n".join([*raw, b"", b""])


def post(body: bytes, *lines: str, media_type: str = "application/json") -> bytes:
    """Build a request that is good but for its body or the lines that are added."""
    fields = [f"Content-Type: {media_type}", f"Content-Length: {len(body)}"]
    return get(*fields, *lines, method="POST", target="/greetings", end=body)


def raw_post(*lines: str, body: bytes = b"", version: str = "HTTP/1.1") -> bytes:
    """Build a request whose framing is up to the caller."""
    first = f"POST /greetings {version}"
    return head(first, "Host: localhost", "Content-Type: application/json", *lines) + body


def chunked(body: bytes) -> bytes:
    """Build a request whose chunks are up to the caller."""
    return raw_post("Transfer-Encoding: chunked", body=body)


def upgrade(**changes: str | None) -> bytes:
    """Build a WebSocket handshake with some headers replaced or, by `None`, left out."""
    headers: dict[str, str | None] = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return get(*lines, target="/echo")


def frame(opcode: int, data: bytes = b"", *, first: int = 0x80, length: int | None = None) -> bytes:
    """Build a masked WebSocket frame; `first` has the FIN and reserved bits."""
    length = len(data) if length is None else length
    if length < 126:
        size = struct.pack("B", 0x80 | length)
    elif length < 65536:
        size = struct.pack("!BH", 0x80 | 126, length)
    else:
        size = struct.pack("!BQ", 0x80 | 127, length)
    masked = bytes(byte ^ MASK[i % 4] for i, byte in enumerate(data))
    return struct.pack("B", first | opcode) + size + MASK + masked


GOOD = get()
JSON = b'{"name": "Ada"}'
CHUNK = b"f\r\n" + JSON + b"\r\n"
LAST_CHUNK = b"0\r\n\r\n"
FORM = "application/x-www-form-urlencoded"
TLS_HELLO = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(range(128, 168))

REQUEST_LINES = [
    Message("empty-request-line", b"\r\n\r\n"),
    Message("only-line-ends", b"\r\n" * 50, (CLOSED, 400)),
    Message("no-version", head("GET /", "Host: localhost")),
    Message("http-0.9", b"GET /\r\n\r\n"),
    Message("http-0.9-version", head("GET / HTTP/0.9", "Host: localhost")),
    Message("http-2.0", head("GET / HTTP/2.0", "Host: localhost")),
    Message("http-2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Message("http-11", head("GET / HTTP/11", "Host: localhost")),
    Message("http-1.10", head("GET / HTTP/1.10", "Host: localhost")),
    Message("lower-case-http", head("GET / http/1.1", "Host: localhost")),
    Message("other-protocol", head("GET / ICY/1.1", "Host: localhost")),
    Message("no-target", head("GET HTTP/1.1", "Host: localhost")),
    Message("no-method", head("/ HTTP/1.1", "Host: localhost")),
    Message("leading-space", head(" GET / HTTP/1.1", "Host: localhost")),
    Message("trailing-space", head("GET / HTTP/1.1 ", "Host: localhost")),
    Message("two-spaces", head("GET  / HTTP/1.1", "Host: localhost")),
    Message("space-in-target", head("GET /greetings/a b HTTP/1.1", "Host: localhost")),
    Message("tabs", head("GET\t/\tHTTP/1.1", "Host: localhost")),
    Message("tab-in-target", head("GET /greetings/a\tb HTTP/1.1", "Host: localhost")),
    Message("nul-in-target", head("GET /greetings/a\0b HTTP/1.1", "Host: localhost")),
    Message("control-in-target", head("GET /greetings/a\x1bb HTTP/1.1", "Host: localhost")),
    Message("delete-in-target", head("GET /greetings/a\x7fb HTTP/1.1", "Host: localhost")),
    Message("raw-byte-in-target", head("GET /greetings/a\xffb HTTP/1.1", "Host: localhost")),
    Message("nul-in-method", head("G\0T / HTTP/1.1", "Host: localhost")),
    Message("method-no-token", head("G@T / HTTP/1.1", "Host: localhost")),
    Message("method-not-ascii", head("G\xcbT / HTTP/1.1", "Host: localhost")),
    Message("garbage", b"hello?\r\nis anybody there?\r\n\r\n"),
    Message("smtp", b"EHLO example.com\r\nMAIL FROM:<a@example.com>\r\n\r\n"),
    Message("proxy-protocol", b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\n" + GOOD),
    Message("tls-client-hello", TLS_HELLO, (CLOSED, 400), half_close=True),
    Message("binary", bytes(range(256)) * 8 + b"\r\n\r\n"),
    Message("target-15-kb", get(target="/" + "a" * 15_000), (404, 414)),
    Message("target-100-kb", get(target="/" + "a" * 100_000), (CLOSED, 400, 414, 431)),
    Message("5-mb-without-line-end", b"a" * 5_000_000, (CLOSED, 400, 414, 431)),
    Message("5-mb-of-nul", b"\0" * 5_000_000, (CLOSED, 400, 414, 431)),
    Message("truncated-headers", GOOD[:-2], (CLOSED, 400), half_close=True),
    Message("connect-and-go", b"", (CLOSED,), half_close=True),
]

LINE_ENDS = [
    Message("bare-lf-request-line", b"GET / HTTP/1.1\nHost: localhost\r\n\r\n"),
    Message("bare-lf-header", b"GET / HTTP/1.1\r\nHost: localhost\nA: b\r\n\r\n"),
    Message("bare-lf-last-header", b"GET / HTTP/1.1\r\nHost: localhost\n\r\n"),
    Message("bare-lf-end", b"GET / HTTP/1.1\r\nHost: localhost\r\n\n"),
    Message("bare-lf-everywhere", b"GET / HTTP/1.1\nHost: localhost\n\n"),
    Message("bare-lf-in-value", get(b"A: b\nX-Request-ID: injected")),
    Message("bare-lf-before", b"\n" + GOOD),
    Message("bare-lf-chunk-size", chunked(CHUNK.replace(b"\r\n", b"\n") + LAST_CHUNK)),
    Message("bare-lf-last-chunk", chunked(CHUNK + b"0\n\n"), (CLOSED, 400), half_close=True),
    Message("bare-cr-before", b"\r" + GOOD),
    Message("bare-cr-request-line", b"GET / HTTP/1.1\rHost: localhost\r\n\r\n"),
    Message("bare-cr-in-target", get(target="/greetings/a\rb")),
    Message("bare-cr-header", get(b"A: b\rX-Injected: c")),
    Message("bare-cr-name", get(b"A\r: b")),
    Message("cr-cr-lf-request-line", b"GET / HTTP/1.1\r\r\nHost: localhost\r\n\r\n"),
    Message("cr-cr-lf-header", b"GET / HTTP/1.1\r\nHost: localhost\r\r\n\r\n"),
]

HEADERS = [
    Message("no-colon", get("A header without one")),
    Message("space-before-colon", get("A : b")),
    Message("tab-before-colon", get("A\t: b")),
    Message("empty-name", get(": b")),
    Message("leading-space-first-header", head("GET / HTTP/1.1", " A: b", "Host: localhost")),
    Message("folded-space", get("A: b", " c")),
    Message("folded-tab", get("A: b", "\tc")),
    Message("folded-content-length", raw_post("Content-Length:", " 15", body=JSON)),
    Message("space-in-name", get("A b: c")),
    Message("nul-in-name", get("A\0: b")),
    Message("control-in-name", get("A\x0b: b")),
    Message("name-not-ascii", get("\xc4: b")),
    Message("name-with-brackets", get("A[0]: b")),
    Message("name-with-quotes", get('"A": b')),
    Message("nul-in-value", get("A: b\0c")),
    Message("backspace-in-value", get("A: b\x08c")),
    Message("vertical-tab-in-value", get("A: b\x0bc")),
    Message("escape-in-value", get("User-Agent: \x1b[31mred")),
    Message("delete-in-value", get("A: b\x7f")),
    Message("no-host", head("GET / HTTP/1.1", "A: b")),
    Message("no-header-at-all", b"GET / HTTP/1.1\r\n\r\n"),
    Message("two-hosts", get("Host: example.com")),
    Message("two-equal-hosts", get("Host: localhost")),
    Message("hosts-in-a-list", head("GET / HTTP/1.1", "Host: localhost, example.com")),
    Message("host-with-path", head("GET / HTTP/1.1", "Host: localhost/admin")),
    Message("host-with-user", head("GET / HTTP/1.1", "Host: user@localhost")),
    Message("host-with-space", head("GET / HTTP/1.1", "Host: local host")),
    Message("host-not-ascii", head("GET / HTTP/1.1", "Host: l\xf6calhost")),
    Message("host-with-bad-port", head("GET / HTTP/1.1", "Host: localhost:http")),
    Message("host-with-5000-digits", head("GET / HTTP/1.1", "Host: localhost:" + "1" * 5000)),
    Message("one-header-64-kb", get("A: " + "b" * 65_536), (CLOSED, 400, 431)),
    Message("header-name-64-kb", get("A" * 65_536 + ": b"), (CLOSED, 400, 431)),
    Message("10000-headers", get(*(f"A{i}: b" for i in range(10_000))), (CLOSED, 400, 431)),
    Message("10000-equal-headers", get(*["A: b"] * 10_000), (CLOSED, 400, 431)),
    Message("cookie-64-kb", get("Cookie: " + "a=b; " * 13_000), (CLOSED, 400, 431)),
]

FRAMING = [
    Message("length-negative", raw_post("Content-Length: -1")),
    Message("length-plus", raw_post("Content-Length: +15", body=JSON)),
    Message("length-hex", raw_post("Content-Length: 0xf", body=JSON)),
    Message("length-decimals", raw_post("Content-Length: 15.0", body=JSON)),
    Message("length-underscore", raw_post("Content-Length: 1_5", body=JSON)),
    Message("length-empty", raw_post("Content-Length:", body=JSON)),
    Message("length-word", raw_post("Content-Length: fifteen", body=JSON)),
    Message("length-superscript", raw_post("Content-Length: 1\xb2", body=JSON)),
    Message("length-with-space", raw_post("Content-Length: 1 5", body=JSON)),
    Message("length-conflicting", raw_post("Content-Length: 15", "Content-Length: 16", body=JSON)),
    Message("length-conflicting-list", raw_post("Content-Length: 15, 16", body=JSON)),
    Message("length-list-with-hole", raw_post("Content-Length: 15,,15", body=JSON)),
    Message("length-equal-but-too-large", raw_post(*["Content-Length: 2000000"] * 2), (400, 413)),
    Message("length-bad-on-get", get("Content-Length: -5")),
    Message("length-over-limit", raw_post(f"Content-Length: {LIMIT + 1}"), (413,)),
    Message("length-over-limit-get", get(f"Content-Length: {LIMIT + 1}"), (413,)),
    Message("length-over-limit-sent", post(b" " * (LIMIT + 1)), (CLOSED, 413)),
    Message("length-over-63-bits", raw_post(f"Content-Length: {2**63}"), (400, 413)),
    Message(
        "length-over-64-bits",
        raw_post(f"Content-Length: {2**64 + 15}", body=JSON),
        (400, 413),
    ),
    Message("length-5000-digits", raw_post("Content-Length: " + "9" * 5000), (400, 413)),
    Message("length-5000-zeros", raw_post("Content-Length: " + "0" * 5000 + "15", body=JSON)),
    Message(
        "length-over-limit-expect",
        raw_post("Content-Length: 9999999", "Expect: 100-continue"),
        (413,),
    ),
    Message(
        "length-and-chunked",
        raw_post("Content-Length: 15", "Transfer-Encoding: chunked", body=CHUNK + LAST_CHUNK),
    ),
    Message(
        "chunked-and-length",
        raw_post("Transfer-Encoding: chunked", "Content-Length: 5", body=CHUNK + LAST_CHUNK),
    ),
    Message(
        "large-length-and-chunked",
        raw_post("Content-Length: 9999999", "Transfer-Encoding: chunked", body=CHUNK + LAST_CHUNK),
        (400, 413),
    ),
    Message(
        "length-truncated",
        raw_post("Content-Length: 15", body=JSON[:5]),
        (CLOSED, 400),
        half_close=True,
    ),
    Message(
        "chunked-twice", raw_post("Transfer-Encoding: chunked, chunked", body=CHUNK + LAST_CHUNK)
    ),
    Message(
        "chunked-twice-in-two-lines",
        raw_post(*["Transfer-Encoding: chunked"] * 2, body=CHUNK + LAST_CHUNK),
    ),
    Message(
        "chunked-after-gzip", raw_post("Transfer-Encoding: gzip, chunked", body=CHUNK + LAST_CHUNK)
    ),
    Message(
        "chunked-then-identity",
        raw_post("Transfer-Encoding: chunked, identity", body=CHUNK + LAST_CHUNK),
    ),
    Message("coding-identity", raw_post("Transfer-Encoding: identity", body=JSON)),
    Message("coding-unknown", raw_post("Transfer-Encoding: cow", body=JSON)),
    Message(
        "coding-almost-chunked", raw_post("Transfer-Encoding: xchunked", body=CHUNK + LAST_CHUNK)
    ),
    Message("coding-quoted", raw_post('Transfer-Encoding: "chunked"', body=CHUNK + LAST_CHUNK)),
    Message("coding-empty", raw_post("Transfer-Encoding:", body=JSON)),
    Message(
        "coding-leading-comma", raw_post("Transfer-Encoding: ,chunked", body=CHUNK + LAST_CHUNK)
    ),
    Message(
        "coding-space-before-colon",
        raw_post("Transfer-Encoding : chunked", body=CHUNK + LAST_CHUNK),
    ),
    Message("coding-on-get", get("Transfer-Encoding: cow")),
    Message(
        "chunked-http-1.0",
        raw_post("Transfer-Encoding: chunked", body=CHUNK + LAST_CHUNK, version="HTTP/1.0"),
    ),
    Message(
        "chunked-http-1.0-keep-alive",
        raw_post(
            "Transfer-Encoding: chunked",
            "Connection: keep-alive",
            body=CHUNK + LAST_CHUNK,
            version="HTTP/1.0",
        ),
    ),
    Message("chunk-size-negative", chunked(b"-f\r\n" + JSON + b"\r\n" + LAST_CHUNK)),
    Message("chunk-size-plus", chunked(b"+f\r\n" + JSON + b"\r\n" + LAST_CHUNK)),
    Message("chunk-size-0x", chunked(b"0xf\r\n" + JSON + b"\r\n" + LAST_CHUNK)),
    Message("chunk-size-not-hex", chunked(b"g\r\n" + JSON + b"\r\n" + LAST_CHUNK)),
    Message("chunk-size-empty", chunked(b"\r\n" + JSON + b"\r\n" + LAST_CHUNK)),
    Message("chunk-size-space", chunked(b"f \r\n" + JSON + b"\r\n" + LAST_CHUNK)),
    Message("chunk-size-underscore", chunked(b"0_f\r\n" + JSON + b"\r\n" + LAST_CHUNK)),
    Message("chunk-size-not-ascii", chunked(b"\xff\r\n" + JSON + b"\r\n" + LAST_CHUNK)),
    Message("chunk-size-over-64-bits", chunked(b"f" * 17 + b"\r\n" + JSON), (400, 413)),
    Message("chunk-size-1000-digits", chunked(b"f" * 1000 + b"\r\n" + JSON), (CLOSED, 400)),
    Message("chunk-extension-1000", chunked(b"f;" + b"a" * 1000 + b"\r\n" + JSON), (CLOSED, 400)),
    Message("chunk-extension-bare-lf", chunked(b"f;\n" + JSON + b"\r\n" + LAST_CHUNK)),
    Message("chunk-longer-than-size", chunked(b"2\r\n" + JSON + b"\r\n" + LAST_CHUNK)),
    Message("chunk-without-crlf", chunked(b"f\r\n" + JSON + LAST_CHUNK)),
    Message("chunk-then-nothing", chunked(CHUNK), (CLOSED, 400), half_close=True),
    Message("chunk-truncated", chunked(CHUNK[:8]), (CLOSED, 400), half_close=True),
    Message("chunk-trailer-smuggles", chunked(CHUNK + b"0\r\nContent-Length: 50\r\n\r\n")),
    Message("chunk-over-limit", chunked(f"{LIMIT + 1:x}\r\n".encode()), (400, 413)),
    Message(
        "chunks-over-limit",
        chunked((b"10000\r\n" + b" " * 65_536 + b"\r\n") * 17),
        (CLOSED, 400, 413),
    ),
]

ROUTES = [
    Message("method-unknown", get(method="BREW"), (405,)),
    Message("method-lower-case", get(method="get"), (405,)),
    Message("method-10-kb", get(method="A" * 10_000), (405,)),
    Message("method-trace", get("Cookie: a=b", method="TRACE"), (405,)),
    Message("method-connect", get(method="CONNECT", target="localhost:22"), (400, 404, 405)),
    Message("method-delete", get(method="DELETE"), (405,)),
    Message(
        "method-put-with-body",
        raw_post("Content-Length: 15", body=JSON).replace(b"POST", b"PUT"),
        (405,),
    ),
    Message("method-get-on-post", get(target="/greetings"), (405,)),
    Message("target-asterisk", get(method="OPTIONS", target="*"), (400, 404, 405)),
    Message("target-asterisk-get", get(target="*"), (400, 404)),
    Message("target-empty-query", get(target="?"), (400, 404)),
    Message("target-no-slash", get(target="greetings/Ada"), (400, 404)),
    Message(
        "target-other-host", get(target="http://169.254.169.254/latest/meta-data"), (400, 404, 421)
    ),
    Message("target-file-url", get(target="file:///etc/passwd"), (400, 404)),
    Message("target-fragment", get(target="/#top"), (400, 404)),
    Message("target-traversal", get(target="/../../../../etc/passwd"), (400, 404)),
    Message("target-traversal-inside", get(target="/greetings/../../etc/passwd"), (400, 404)),
    Message("target-traversal-encoded", get(target="/%2e%2e/%2e%2e/etc/passwd"), (400, 404)),
    Message("target-traversal-backslash", get(target="/..\\..\\windows\\win.ini"), (400, 404)),
    Message("target-two-slashes", get(target="//example.com/%2f.."), (400, 404)),
    Message("target-name-too-long", get(target="/greetings/" + "a" * 101), (422,)),
    Message("percent-bad-utf-8", get(target="/greetings/%ff"), (400,)),
    Message("percent-cut-utf-8", get(target="/greetings/%c3%28"), (400,)),
    Message("percent-overlong", get(target="/greetings/%c0%af"), (400,)),
    Message("percent-surrogate", get(target="/greetings/%ed%a0%80"), (400,)),
    Message("percent-not-hex", get(target="/greetings/%zz"), (400,)),
    Message("percent-cut", get(target="/greetings/abc%f"), (400,)),
    Message("percent-bad-utf-8-no-route", get(target="/%ff%fe"), (400, 404)),
    Message("query-1001-fields", get(target="/?" + "&".join(["a"] * 1001)), (400,)),
    Message("query-7500-fields", get(target="/?" + "&" * 7500 + "a"), (400,)),
    Message("cross-site-post", post(JSON, "Sec-Fetch-Site: cross-site"), (403,)),
    Message("foreign-origin-post", post(JSON, "Origin: https://evil.example"), (403,)),
    Message("null-origin-post", post(JSON, "Origin: null"), (403,)),
    Message("broken-origin-post", post(JSON, "Origin: http://[::1"), (400, 403)),
]

BODIES = [
    Message("json-deep-arrays", post(b"[" * 100_000 + b"]" * 100_000), (400, 422)),
    Message("json-deep-unclosed", post(b"[" * 100_000)),
    Message("json-deep-objects", post(b'{"name":' * 100_000 + b"1" + b"}" * 100_000), (400, 422)),
    Message("json-nan", post(b'{"name": NaN}')),
    Message("json-infinity", post(b'{"name": -Infinity}')),
    Message("json-bad-utf-8", post(b'{"name": "\xff"}')),
    Message("json-overlong-utf-8", post(b'{"name": "\xc0\xaf"}')),
    Message("json-lone-surrogate", post(rb'{"name": "\ud800"}')),
    Message("json-raw-surrogate", post(b'{"name": "\xed\xa0\x80"}')),
    Message("json-raw-control", post(b'{"name": "a\x01b"}')),
    Message("json-utf-16", post('{"name": "Ada"}'.encode("utf-16"))),
    Message("json-bom", post(b"\xef\xbb\xbf" + JSON)),
    Message("json-single-quotes", post(b"{'name': 'Ada'}")),
    Message("json-comment", post(b'{"name": "Ada"} // me')),
    Message("json-trailing-comma", post(b'{"name": "Ada",}')),
    Message("json-two-documents", post(JSON + JSON)),
    Message("json-truncated", post(JSON[:-1])),
    Message("json-nul-behind", post(JSON + b"\0")),
    Message("json-huge-integer", post(b'{"name": ' + b"9" * 100_000 + b"}"), (400, 422)),
    Message("json-huge-exponent", post(b'{"name": 1e999999}'), (400, 422)),
    Message("json-integer-over-64-bits", post(b'{"name": 18446744073709551616}'), (400, 422)),
    Message("json-number-for-text", post(b'{"name": 1}'), (422,)),
    Message("json-null-for-text", post(b'{"name": null}'), (422,)),
    Message("json-list-for-text", post(b'{"name": ["Ada"]}'), (422,)),
    Message("json-empty-text", post(b'{"name": ""}'), (422,)),
    Message("json-text-1-mb", post(b'{"name": "' + b"a" * (LIMIT - 100) + b'"}'), (422,)),
    Message("json-top-level-array", post(b"[]"), (422,)),
    Message("json-top-level-number", post(b"1"), (422,)),
    Message("json-top-level-null", post(b"null"), (422,)),
    Message("json-top-level-text", post(b'"name"'), (422,)),
    Message("json-unknown-member", post(b'{"name": "Ada", "admin": true}'), (422,)),
    Message("json-proto-member", post(b'{"name": "Ada", "__proto__": {}}'), (422,)),
    Message(
        "json-90000-unknown-members",
        post(b'{"name": "Ada"' + b"".join(b',"%x":1' % i for i in range(90_000)) + b"}"),
        (400, 422),
    ),
    Message("json-missing-member", post(b"{}"), (422,)),
    Message("json-empty-body", post(b"")),
    Message("json-no-length", raw_post()),
    Message("json-as-text", post(JSON, media_type="text/plain"), (415,)),
    Message("json-as-nonsense", post(JSON, media_type=";;;"), (415,)),
    Message("json-as-two-types", post(JSON, "Content-Type: text/html"), (415,)),
    Message("json-gzip", post(gzip.compress(JSON), "Content-Encoding: gzip"), (400, 415)),
    Message("json-says-gzip", post(JSON, "Content-Encoding: gzip"), (400, 415)),
    Message(
        "gzip-bomb",
        post(gzip.compress(b" " * 100_000_000, 1), "Content-Encoding: gzip"),
        (400, 415),
    ),
    Message("form", post(b"name=Ada", media_type=FORM), (415,)),
    Message("form-1001-fields", post(b"&".join([b"a=b"] * 1001), media_type=FORM), (400, 413, 415)),
    Message(
        "form-100000-fields", post(b"&".join([b"a=b"] * 100_000), media_type=FORM), (400, 413, 415)
    ),
    Message("form-bad-utf-8", post(b"\xff=%ff%zz", media_type=FORM), (400, 415)),
    Message("form-gzip", post(b"a=b", "Content-Encoding: gzip", media_type=FORM), (400, 415)),
    Message(
        "multipart-1001-parts",
        post(
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' * 1001 + b"--x--\r\n",
            media_type="multipart/form-data; boundary=x",
        ),
        (400, 413, 415),
    ),
    Message("multipart-no-boundary", post(b"--x--", media_type="multipart/form-data"), (400, 415)),
    Message(
        "multipart-empty-boundary",
        post(b"----", media_type="multipart/form-data; boundary="),
        (400, 415),
    ),
    Message(
        "multipart-no-end",
        post(b"--x\r\n\r\n", media_type="multipart/form-data; boundary=x"),
        (400, 415),
    ),
    Message(
        "expect-nonsense-bad-body", post(b"nonsense", "Expect: the-spanish-inquisition"), (400, 417)
    ),
]

UPGRADES = [
    Message("upgrade-plain-get", get(target="/echo"), (400, 426)),
    Message("upgrade-no-upgrade", upgrade(Upgrade=None), (400, 426)),
    Message("upgrade-other-protocol", upgrade(Upgrade="h2c"), (400, 426)),
    Message("upgrade-no-connection", upgrade(Connection=None), (400, 426)),
    Message("upgrade-bad-connection", upgrade(Connection="keep-alive"), (400, 426)),
    Message("upgrade-no-key", upgrade(Sec_WebSocket_Key=None)),
    Message("upgrade-empty-key", upgrade(Sec_WebSocket_Key="")),
    Message("upgrade-short-key", upgrade(Sec_WebSocket_Key="c2hvcnQ=")),
    Message("upgrade-key-not-base64", upgrade(Sec_WebSocket_Key="!" * 24)),
    Message("upgrade-no-version", upgrade(Sec_WebSocket_Version=None), (400, 426)),
    Message("upgrade-version-0", upgrade(Sec_WebSocket_Version="0"), (426,)),
    Message("upgrade-version-99", upgrade(Sec_WebSocket_Version="99"), (426,)),
    Message("upgrade-version-nonsense", upgrade(Sec_WebSocket_Version="13, 8"), (400, 426)),
    Message("upgrade-foreign-origin", upgrade(Origin="https://evil.example"), (403,)),
    Message("upgrade-null-origin", upgrade(Origin="null"), (403,)),
    Message("upgrade-broken-origin", upgrade(Origin="http://[::1"), (400, 403)),
    Message("upgrade-cross-site", upgrade(Sec_Fetch_Site="cross-site"), (403,)),
    Message("upgrade-post", upgrade().replace(b"GET", b"POST"), (426,)),
    Message("upgrade-http-1.0", upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), (400, 426)),
    Message("upgrade-no-route", upgrade().replace(b"/echo", b"/nowhere"), (404,)),
    Message(
        "upgrade-mixed-continuations",
        upgrade(Sec_WebSocket_Extensions="a; b*=c; b*0=d") + frame(3),
        (CLOSED,),
        first=(101,),
    ),
    Message(
        "upgrade-huge-continuation",
        upgrade(Sec_WebSocket_Extensions=f"a; b*{'9' * 5000}=c") + frame(3),
        (CLOSED,),
        first=(101,),
    ),
]

FRAMES = {
    "opcode-3": frame(3, b"a"),
    "opcode-11": frame(11, b"a"),
    "opcode-3-fragmented": frame(3, b"a", first=0) + frame(0, b"b"),
    "reserved-bit-1": frame(1, b"a", first=0xC0),
    "reserved-bit-2": frame(1, b"a", first=0xA0),
    "reserved-bit-3": frame(1, b"a", first=0x90),
    "bad-utf-8": frame(1, b"\xff\xfe"),
    "bad-utf-8-fragmented": frame(1, b"\xc3", first=0) + frame(0, b"\x28"),
    "fragmented-ping": frame(9, b"a", first=0),
    "fragmented-close": frame(8, b"\x03\xe8", first=0),
    "long-ping": frame(9, b"a" * 126),
    "oversize": frame(2, b"", length=LIMIT + 1),
    "oversize-64-bits": frame(2, b"", length=2**64 - 1),
    "oversize-in-fragments": frame(2, b"a" * 65_536, first=0)
    + frame(0, b"a" * 65_536, first=0) * 15
    + frame(0, b"a"),
    "continuation-of-nothing": frame(0, b"a"),
    "new-message-in-fragments": frame(1, b"a", first=0) + frame(1, b"b"),
    "close-with-1-byte": frame(8, b"a"),
    "close-with-bad-code": frame(8, b"\x00\x01"),
    "close-with-bad-utf-8": frame(8, b"\x03\xe8\xff"),
    "http-instead": b"GET / HTTP/1.1\r\n\r\n",
}
WEBSOCKETS = [
    Message(f"frame-{name}", upgrade() + data, (CLOSED,), first=(101,))
    for name, data in FRAMES.items()
]

PIPELINES = [
    Message("good-then-garbage", GOOD + b"garbage\r\n\r\n", first=(200,)),
    Message("good-then-bare-lf", GOOD + GOOD.replace(b"\r\n", b"\n"), first=(200,)),
    Message("good-then-no-host", GOOD + head("GET / HTTP/1.1"), first=(200,)),
    Message(
        "good-then-too-large", GOOD + raw_post("Content-Length: 9999999"), (413,), first=(200,)
    ),
    Message("three-good-then-bad", GOOD * 3 + get("A : b"), first=(200, 200, 200)),
    Message("good-body-then-bad", post(JSON) + b"\0\r\n\r\n", first=(201,)),
    Message(
        "length-0-then-body", raw_post("Content-Length: 0", body=JSON + b"\r\n\r\n"), first=(400,)
    ),
    Message(
        "smuggle-length-then-chunked",
        raw_post("Content-Length: 6", "Transfer-Encoding: chunked", body=LAST_CHUNK + b"G" + GOOD),
    ),
    Message(
        "smuggle-chunked-then-length",
        raw_post("Transfer-Encoding: chunked", "Content-Length: 4", body=b"5c\r\n" + GOOD),
    ),
    Message(
        "smuggle-coding-hidden",
        raw_post("Transfer-Encoding: chunked", "Transfer-encoding: cow", body=LAST_CHUNK + GOOD),
    ),
    Message(
        "smuggle-coding-vertical-tab",
        raw_post("Transfer-Encoding: \x0bchunked", "Content-Length: 5", body=LAST_CHUNK + GOOD),
    ),
    Message(
        "smuggle-length-bare-cr",
        raw_post("A: b\rContent-Length: 500", "Content-Length: 0", body=GOOD),
    ),
    Message(
        "smuggle-http-1.0-chunked",
        raw_post(
            "Transfer-Encoding: chunked",
            "Connection: keep-alive",
            body=CHUNK + LAST_CHUNK + GOOD,
            version="HTTP/1.0",
        ),
    ),
    Message(
        "smuggle-upgrade-refused",
        upgrade(Sec_WebSocket_Version="777") + b"garbage\r\n\r\n",
        first=(426,),
    ),
]

MESSAGES = [
    *REQUEST_LINES,
    *LINE_ENDS,
    *HEADERS,
    *FRAMING,
    *ROUTES,
    *BODIES,
    *UPGRADES,
    *WEBSOCKETS,
    *PIPELINES,
]

SMUGGLED = post(JSON)
LAST_REQUESTS = {
    "connection-close": get("Connection: close") + SMUGGLED,
    "http-1.0": b"GET / HTTP/1.0\r\n\r\n" + SMUGGLED,
    "post-with-connection-close": post(JSON, "Connection: close") + SMUGGLED,
    "no-route-with-connection-close": get("Connection: close", target="/nowhere") + SMUGGLED,
    "too-large": raw_post("Content-Length: 9999999") + SMUGGLED,
    "too-large-connection-close": raw_post("Content-Length: 9999999", "Connection: close")
    + SMUGGLED,
    "malformed": get("A : b") + SMUGGLED,
}
"""A request that ends its connection, and one behind it that nobody may handle."""

SECRET = "s3cr3t-of-a-client"
CREDENTIALS = (f"Authorization: Bearer {SECRET}", f"Cookie: session={SECRET}")

SECRETS = {
    "control-in-authorization": get(f"Authorization: Bearer {SECRET}\x01"),
    "control-in-cookie": get(f"Cookie: a='b\"; session={SECRET}\x01'"),
    "quotes-in-authorization": get(f"Authorization: Bearer '\"\\'{SECRET}'\\\x01"),
    "bare-cr-in-cookie": get(f"Cookie: session={SECRET}\rA: b"),
    "bare-lf-in-cookie": get(f"Cookie: session={SECRET}\nA: b"),
    "space-before-colon": get(f"Authorization : Bearer {SECRET}"),
    "no-colon": get(f"Authorization Bearer {SECRET}"),
    "value-as-name": get(f"Bearer {SECRET}: a"),
    "folded": get("Authorization: Bearer", f" {SECRET}"),
    "malformed-behind": get(*CREDENTIALS, "A header without colon"),
    "name-behind": get(*CREDENTIALS, "B\x01: c"),
    "bad-length-behind": get(*CREDENTIALS, "Content-Length: -1"),
    "bad-coding-behind": get(*CREDENTIALS, "Transfer-Encoding: cow"),
    "two-hosts-behind": get(*CREDENTIALS, "Host: example.com"),
    "too-large": get(*CREDENTIALS, "Content-Length: 9999999", target=f"/?token={SECRET}"),
    "headers-over-limit": get(*CREDENTIALS, "A: " + "b" * 65_536, target=f"/?token={SECRET}"),
    "query": get(*CREDENTIALS, target=f"/?token={SECRET}"),
    "query-no-version": head(f"GET /?token={SECRET}", "Host: localhost"),
    "query-bad-version": head(f"GET /?token={SECRET} HTTP/{SECRET}", "Host: localhost"),
    "query-control": head(f"GET /?token={SECRET}\x01 HTTP/1.1", "Host: localhost"),
    "query-1001-fields": get(target=f"/?token={SECRET}&" + "&".join(["a"] * 1001)),
    "query-not-found": get(*CREDENTIALS, target=f"/nowhere?token={SECRET}"),
    "query-405": get(*CREDENTIALS, method="DELETE", target=f"/?token={SECRET}"),
    "query-bad-utf-8": get(*CREDENTIALS, target=f"/greetings/%ff?token={SECRET}"),
    "query-422": get(*CREDENTIALS, target=f"/greetings/{'a' * 101}?token={SECRET}"),
    "query-quotes": get(target=f"/nowhere?a='\"&token={SECRET}\"'"),
    "json-400": post(f'{{"token": "{SECRET}"'.encode(), *CREDENTIALS),
    "json-422": post(f'{{"name": ["{SECRET}"], "token": "{SECRET}"}}'.encode(), *CREDENTIALS),
    "form-400": post(f"token={SECRET}&".encode() * 1001, *CREDENTIALS, media_type=FORM),
    "foreign-origin": post(JSON, *CREDENTIALS, "Origin: https://evil.example"),
    "broken-origin": post(JSON, *CREDENTIALS, "Origin: http://[::1"),
    "upgrade-refused": get(*CREDENTIALS, target=f"/echo?token={SECRET}"),
    "boom": get(*CREDENTIALS, target=f"/fail?token={SECRET}"),
    "boom-plain": get(*CREDENTIALS, target=f"/plain/nonsense?token={SECRET}"),
    "user-in-target": get(target=f"http://user:{SECRET}@localhost/"),
}
