"""Bodies: how they are decoded, however they arrive, and which are refused."""

from collections.abc import Iterable

import pytest
from runtime.http1.body import MAX_OVERHEAD, MAX_SIZE_LINE, Body, ChunkedBody, FixedBody
from runtime.http1.errors import RequestError

NEXT = b"GET / HTTP/1.1\r\n"
"""The beginning of the request behind a body."""


def decode(body: Body, pieces: Iterable[bytes]) -> tuple[bytes, bytes]:
    """Decode pieces as a connection does; return the body and what follows it."""
    decoded, rest = b"", b""
    for piece in pieces:
        if body.is_complete:
            rest += piece
        else:
            part, rest = body.decode(rest + piece)
            decoded += part
    return decoded, rest


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def refusal(data: bytes) -> str:
    """Return why a chunked body is refused; check that it does not depend on how it arrives."""
    details = set()
    for pieces in ([data], bytewise(data), *([data[:i], data[i:]] for i in range(1, len(data)))):
        with pytest.raises(RequestError) as caught:
            decode(ChunkedBody(), pieces)
        assert caught.value.status == 400
        details.add(caught.value.detail)
    [detail] = details
    return detail


CHUNKED = [
    (b"0\r\n\r\n", b""),
    (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
    (b"1\r\na\r\n02\r\nbc\r\n000\r\n\r\n", b"abc"),
    (
        b"a\r\n0123456789\r\nC\r\n\r\n\r\n\n\r0\r\n\r\n0\r\n0\r\n\r\n",
        b"0123456789\r\n\r\n\n\r0\r\n\r\n0",
    ),
    (b'3;a\r\nabc\r\n3 ; b="c\xe9"\r\ndef\r\n0\t;;\r\n\r\n', b"abcdef"),
    (b"3\r\nabc\r\n0\r\nX-Checksum: 17\r\nEmpty:\r\n\r\n", b"abc"),
]


@pytest.mark.parametrize(("data", "expected"), CHUNKED)
def test_chunked_body_is_the_same_wherever_it_is_split(data: bytes, expected: bytes) -> None:
    whole = data + NEXT
    splits = [[whole[:i], whole[i:]] for i in range(len(whole) + 1)]
    for pieces in (*splits, bytewise(whole)):
        body = ChunkedBody()
        assert decode(body, pieces) == (expected, NEXT)
        assert body.is_complete
        assert body.size == len(expected)


@pytest.mark.parametrize(("data", "expected"), CHUNKED)
def test_no_beginning_of_a_chunked_body_is_complete_or_refused(
    data: bytes, expected: bytes
) -> None:
    for end in range(len(data)):
        body = ChunkedBody()
        decoded, _ = decode(body, [data[:end]])
        assert not body.is_complete
        assert expected.startswith(decoded)


def test_size_of_a_chunk_counts_before_the_chunk_arrives() -> None:
    body = ChunkedBody()
    decode(body, [b"3\r\nabc\r\nffff\r\na"])
    assert body.size == 3 + 0xFFFF


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"g",
        b"-1",
        b"+1",
        b"0x1",
        b" 1",
        b"1 ",
        b"1_0",
        b"1a,",
        b"1 a",
        b"\xb2",
        16 * b"0",
        b"1;\0",
        b"1;\x7f",
    ],
)
def test_malformed_size_is_refused(line: bytes) -> None:
    assert refusal(line + b"\r\na\r\n0\r\n\r\n") == "The size of a chunk is malformed."


@pytest.mark.parametrize(
    "line", [b"1\n", b"1\r\r\n", b"1\r;\r\n", b"1;a\n", b"1\n\r", b"1;\ra\r\n"]
)
def test_bare_cr_and_lf_in_a_size_line_are_refused(line: bytes) -> None:
    assert refusal(line + b"a\r\n0\r\n\r\n") == "The size of a chunk is malformed."


@pytest.mark.parametrize("ending", [b"", b"b\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r"])
def test_chunk_of_another_length_than_its_size_is_refused(ending: bytes) -> None:
    assert refusal(b"1\r\na" + ending + b"0\r\n\r\n") == "A chunk is longer than its size says."


@pytest.mark.parametrize(
    "field",
    [
        b"no colon\r\n",
        b": a\r\n",
        b"A : a\r\n",
        b" A: a\r\n",
        b"A: a\0\r\n",
        b"A: \x7f\r\n",
        b"A: a\n",
        b"A: a\r\r\n",
        b"A: \ra\r\n",
        b"\n",
        b"\r\r\n",
    ],
)
def test_malformed_trailer_is_refused(field: bytes) -> None:
    assert refusal(b"0\r\n" + field + b"\r\n").startswith("A trailer field is malformed")


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Content-Encoding",
        "content-length",
        "Content-Range",
        "Content-Type",
        "Cookie",
        "HOST",
        "TE",
        "Trailer",
        "Transfer-Encoding",
    ],
)
def test_trailer_that_changes_how_a_request_is_understood_is_refused(name: str) -> None:
    detail = refusal(b"0\r\nX-Good: a\r\n" + name.encode() + b": a\r\n\r\n")
    assert detail == "A trailer field is malformed or not allowed."


def test_longest_size_line_is_accepted_and_a_longer_one_refused() -> None:
    line = b"1;" + (MAX_SIZE_LINE - 4) * b"a" + b"\r\n"
    assert len(line) == MAX_SIZE_LINE
    assert decode(ChunkedBody(), [line + b"b\r\n0\r\n\r\n"]) == (b"b", b"")
    assert refusal(b"1;a" + line[2:]) == "The size of a chunk is malformed."


def test_size_line_without_end_is_refused_before_it_ends() -> None:
    decode(ChunkedBody(), [b"1;" + (MAX_SIZE_LINE - 2) * b"a"])
    with pytest.raises(RequestError, match="size of a chunk"):
        decode(ChunkedBody(), [b"1;" + (MAX_SIZE_LINE - 1) * b"a"])


def test_extensions_of_a_body_are_limited_and_its_chunks_are_not() -> None:
    extension = b";" + 127 * b"a"
    chunk = b"1%b\r\na\r\n"
    most = MAX_OVERHEAD // len(extension)
    body, end = ChunkedBody(), b"0\r\n\r\n"
    assert decode(body, [most * (chunk % extension) + most * (chunk % b"") + end])[1] == b""
    assert body.size == 2 * most
    with pytest.raises(RequestError, match="too many extensions"):
        decode(ChunkedBody(), [most * (chunk % extension) + chunk % b";"])


def test_trailers_of_a_body_are_limited() -> None:
    field = b"A: " + 123 * b"a" + b"\r\n"
    most = MAX_OVERHEAD // len(field)
    assert decode(ChunkedBody(), [b"0\r\n" + most * field + b"\r\n"]) == (b"", b"")
    with pytest.raises(RequestError, match="too many extensions or trailer"):
        decode(ChunkedBody(), [b"0\r\n" + most * field + b"A:\r\n"])


def test_trailer_without_end_is_refused_before_it_ends() -> None:
    start = b"0\r\nA: "
    decode(ChunkedBody(), [start + (MAX_OVERHEAD - 3) * b"a"])
    with pytest.raises(RequestError, match="trailer"):
        decode(ChunkedBody(), [start + (MAX_OVERHEAD - 2) * b"a"])


def test_fixed_body_is_the_same_wherever_it_is_split() -> None:
    whole = b"0\r\n\r\n" + NEXT
    for end in range(len(whole) + 1):
        body = FixedBody(5)
        assert decode(body, [whole[:end], whole[end:]]) == (b"0\r\n\r\n", NEXT)
        assert body.is_complete


def test_fixed_body_is_complete_with_its_last_byte() -> None:
    assert FixedBody(0).is_complete
    body = FixedBody(2)
    for is_complete in False, True:
        assert not body.is_complete
        assert body.decode(b"a") == (b"a", b"")
        assert body.is_complete is is_complete
    assert body.size == 2
