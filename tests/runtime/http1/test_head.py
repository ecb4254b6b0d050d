"""Heads of requests: what is accepted, what is refused, and why."""

import pytest
from runtime.http1.errors import RequestError
from runtime.http1.head import BARE_LINE_END, Head, check_incomplete, parse_head

GOOD = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def head(*lines: str, start: str = "GET / HTTP/1.1", host: str = "Host: localhost") -> Head:
    return parse_head(
        "".join(f"{line}\r\n" for line in (start, host, *lines, "")).encode("latin-1")
    )


def reason(data: str) -> str:
    with pytest.raises(RequestError) as caught:
        parse_head(data.encode("latin-1"))
    assert caught.value.status == 400
    return caught.value.detail


def test_parts_of_a_head() -> None:
    parsed = head("Accept: text/html", "Accept:\t*/* ", start="POST /a?b=c HTTP/1.0")
    assert parsed.start_line == ("POST", "/a?b=c", "HTTP/1.0")
    assert parsed.headers.get_list("accept") == ["text/html", "*/*"]
    assert parsed.headers["Host"] == "localhost"
    assert parsed.body.is_complete


@pytest.mark.parametrize(
    "bad",
    [
        GOOD.replace("localhost\r\n", "localhost\n"),
        GOOD.replace("HTTP/1.1\r\n", "HTTP/1.1\n"),
        GOOD.replace("localhost", "local\rhost"),
        GOOD.replace("localhost\r\n", "localhost\n\r\r\n"),
    ],
)
def test_bare_cr_and_lf_are_refused(bad: str) -> None:
    assert reason(bad) == BARE_LINE_END


@pytest.mark.parametrize(
    "line",
    [
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET /\xe9 HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "",
    ],
)
def test_malformed_request_line_is_refused(line: str) -> None:
    assert reason(GOOD.replace("GET / HTTP/1.1", line)).startswith("The request line is malformed")


@pytest.mark.parametrize(
    "field",
    ["no colon", ": b", "A : b", " A: b", "\tA: b", "A b: c", "A: b\0", "A: \x1b", "\xc4: b"],
)
def test_malformed_field_is_refused(field: str) -> None:
    assert (
        reason(GOOD.replace("\r\n\r\n", f"\r\n{field}\r\n\r\n")) == "Header field 2 is malformed."
    )


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "[2001:DB8::5]", "", "a.b:"],
)
def test_valid_host_passes(host: str) -> None:
    assert head(host=f"Host: {host}").headers["Host"] == host


@pytest.mark.parametrize(
    "host",
    [
        "a:b",
        "a:8000x",
        f"a:{5000 * '9'}",
        "a b",
        "[::1",
        "[a]x",
        "a:1:2",
        "[zz]",
        "a,b",
        "u@a",
        "a/b",
    ],
)
def test_malformed_host_is_refused(host: str) -> None:
    for name in "Host", "HOST":
        assert reason(GOOD.replace("Host: localhost", f"{name}: {host}")) == (
            "The header Host is malformed."
        )


def test_two_hosts_are_refused() -> None:
    twice = GOOD.replace("\r\n\r\n", "\r\nHost: localhost\r\n\r\n")
    assert reason(twice) == "The header Host is malformed."


@pytest.mark.parametrize("target", ["/", "/a/b", "/a?b=c&d", "/%C3%A9", "/~a/(b);c=1", "*", "//a"])
def test_valid_target_passes(target: str) -> None:
    assert head(start=f"GET {target} HTTP/1.1").start_line.path == target


@pytest.mark.parametrize(
    "target", ["/a#b", "/%", "/%zz", '/"', "/<a>", "a", "/a\\b", "?", "?a", "ftp://a/", "http://"]
)
def test_malformed_target_is_refused(target: str) -> None:
    assert reason(GOOD.replace("GET /", f"GET {target}")) == "The request target is malformed."


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        ("http://example.com/a?b", "example.com", "/a?b"),
        ("HTTPS://example.com:8000", "example.com:8000", "/"),
        ("http://[::1]?b", "[::1]", "/?b"),
    ],
)
def test_absolute_target_replaces_the_host(target: str, host: str, path: str) -> None:
    parsed = head(start=f"GET {target} HTTP/1.1")
    assert (parsed.start_line.path, parsed.headers["Host"]) == (path, host)


def test_malformed_host_of_a_target_is_refused() -> None:
    assert reason(GOOD.replace("GET /", "GET http://a:b/")) == "The header Host is malformed."


def test_malformed_origin_is_refused() -> None:
    assert head("Origin: https://elsewhere.example").headers["Origin"]
    assert reason(GOOD.replace("\r\n\r\n", "\r\nOrigin: https://[a\r\n\r\n")) == (
        "The header Origin is malformed."
    )


@pytest.mark.parametrize(
    ("lines", "size"), [(["Content-Length: 5"], 5), (["Content-Length: 5"] * 2, 5), ([], 0)]
)
def test_body_of_a_fixed_length(lines: list[str], size: int) -> None:
    body = head(*lines).body
    assert (body.size, body.is_complete) == (size, size == 0)


@pytest.mark.parametrize(
    "value", ["-1", "+5", "0x5", "5.0", "5_0", "", "five", "1\xb2", "5 5", "5, 6", "5,,5", 19 * "9"]
)
def test_malformed_length_is_refused(value: str) -> None:
    malformed = GOOD.replace("\r\n\r\n", f"\r\nContent-Length: {value}\r\n\r\n")
    assert reason(malformed) == "Content-Length must be a number of bytes."


@pytest.mark.parametrize(
    "coding",
    ["chunked, chunked", "gzip, chunked", "identity", "", ",chunked", '"chunked"', "xchunked"],
)
def test_transfer_encoding_other_than_chunked_is_refused(coding: str) -> None:
    assert not head("Transfer-Encoding: Chunked").body.is_complete
    malformed = GOOD.replace("\r\n\r\n", f"\r\nTransfer-Encoding: {coding}\r\n\r\n")
    assert reason(malformed).startswith("Transfer-Encoding must be chunked")


def test_transfer_encoding_is_refused_in_http_1_0_and_beside_a_length() -> None:
    chunked = GOOD.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert reason(chunked.replace("1.1", "1.0")).startswith("Transfer-Encoding must be chunked")
    both = chunked.replace("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n")
    assert reason(both) == "Content-Length and Transfer-Encoding exclude each other."


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [
        ("1.1", None, True),
        ("1.1", "keep-alive", True),
        ("1.1", "Close", False),
        ("1.1", "TE, close", False),
        ("1.0", None, False),
        ("1.0", "Keep-Alive", True),
        ("1.0", "keep-alive, close", False),
    ],
)
def test_connection_stays_open_if_the_client_lets_it(
    version: str, connection: str | None, keeps: bool
) -> None:
    lines = [f"Connection: {connection}"] if connection else []
    assert head(*lines, start=f"GET / HTTP/{version}").keep_alive is keeps


@pytest.mark.parametrize(("version", "expects"), [("1.1", True), ("1.0", False)])
def test_expectation_to_continue(version: str, expects: bool) -> None:
    parsed = head("Expect: 100-Continue", start=f"POST / HTTP/{version}")
    assert parsed.expects_continue is expects
    assert not head().expects_continue


def test_every_beginning_of_a_good_head_passes() -> None:
    for end in range(len(GOOD)):
        check_incomplete(GOOD[:end].encode())


@pytest.mark.parametrize("bad", ["GET /\n", "GET / HTTP/1.1\r\nA: b\n", "\n", "A\rB"])
def test_incomplete_head_with_a_bare_cr_or_lf_is_refused(bad: str) -> None:
    with pytest.raises(RequestError, match="CR LF"):
        check_incomplete(bad.encode())


def test_second_empty_line_before_a_request_is_refused() -> None:
    # The connection skips the first one.
    with pytest.raises(RequestError, match="request line"):
        check_incomplete(b"\r\n")


def test_incomplete_head_that_is_too_large_is_refused() -> None:
    check_incomplete(16 * 1024 * b"a")
    with pytest.raises(RequestError) as caught:
        check_incomplete(16 * 1024 * b"a" + b"a")
    assert caught.value.status == 431


@pytest.mark.parametrize(("place", "status"), [(0, 400), (16383, 400), (16384, 431)])
def test_reason_does_not_depend_on_how_much_of_a_head_is_there(place: int, status: int) -> None:
    data = place * b"a" + b"\n" + 20_000 * b"a"
    for end in place + 1, 16385, len(data):
        if status == 400 or end > 16384:
            with pytest.raises(RequestError) as caught:
                check_incomplete(data[:end])
            assert caught.value.status == status


def test_reason_repeats_nothing_of_the_request() -> None:
    for bad in (
        GOOD.replace("GET /", "GET /secret #"),
        GOOD.replace("localhost", "secret host"),
        GOOD.replace("\r\n\r\n", "\r\nsecret\r\n\r\n"),
        GOOD.replace("GET", "secret@"),
    ):
        assert "secret" not in reason(bad)
