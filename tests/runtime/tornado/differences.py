"""Where the HTTP server of the runtime differs from Tornado's, as Tornado's tests show it."""

from typing import NamedTuple

LOG_MESSAGES = {
    "The request line is malformed": "Malformed HTTP request line",
    "The header Host is malformed": "Invalid Host header",
    "Header field": "no colon in header line",
    "Content-Length must be": "Multiple unequal Content-Lengths or "
    "Only integer Content-Length is allowed",
    "Transfer-Encoding must be": "Unsupported Transfer-Encoding",
    "Content-Length and Transfer-Encoding": "Message with both Transfer-Encoding and "
    "Content-Length",
    "The size of a chunk": "invalid chunk size",
    "The body may have": "Content-Length too long or chunked body too large",
    "The body is malformed": "invalid gzip data or decompressed body too large",
}
"""How our explanations of refused requests begin, and what Tornado says: its tests look for that.

Ours contain nothing that the client has sent, so some of them stand for two of Tornado's.
"""

SKIPPED = {
    "circlerefs_test.CircleRefsTest.test_curl_httpclient": "pycurl is not installed",
    "circlerefs_test.CircleRefsTest.test_curl_httpclient_streaming_callback": (
        "pycurl is not installed"
    ),
    "httpclient_test.HTTPClientCommonTestCase.test_streaming_unsolicited_brotli_bomb": (
        "about another client"
    ),
    "simple_httpclient_test.SimpleHTTPClientCommonTestCase"
    ".test_streaming_unsolicited_brotli_bomb": "about another client",
    "web_test.GetCurrentUserTest.test_get_current_user_is_lazy": "not finished in Tornado",
    "web_test.StaticFileAlternateDataStreamTest.test_alternate_data_stream": "for Windows",
    "web_test.StaticFileAlternateDataStreamTest.test_alternate_data_stream_version": "for Windows",
    "web_test.StaticFileAlternateDataStreamTest.test_public_file": "for Windows",
}
"""Tests that Tornado itself may skip, and why."""


NO_LOG = "did not get expected log message"
"""What a test says if something is logged in other words than it expects."""


class Difference(NamedTuple):
    """Why tests of Tornado fail with the server of the runtime, and how.

    Each of their assertions that fails must say so: a test may fail for this reason only.
    """

    reason: str
    tests: dict[str, str]
    """What the failed assertion of each test says."""
    log: str | None = None
    """What the server logs, which the test does not expect."""


DIFFERENCES = (
    Difference(
        "A body that is too large gets 413, with the limit, where Tornado says 400.",
        {
            "httpserver_test.BodyLimitsTest.test_body_size_override_reset": (
                "413 Request Entity Too Large"
            ),
            "httpserver_test.BodyLimitsTest.test_large_body_buffered": "413 != 400",
            "httpserver_test.BodyLimitsTest.test_large_body_buffered_chunked": "413 != 400",
            "httpserver_test.BodyLimitsTest.test_large_body_streaming": "413 != 400",
            "httpserver_test.BodyLimitsTest.test_large_body_streaming_chunked": "413 != 400",
        },
    ),
    Difference(
        "A body that does not arrive in time gets 408, where Tornado closes without a response.",
        {"httpserver_test.BodyLimitsTest.test_timeout": NO_LOG},
        "The body did not arrive within 0.1 s.",
    ),
    Difference(
        "A refused request gets a body that says why (RFC 9457), where Tornado's has none.",
        {
            "httpserver_test.UnixSocketTestAbstract.test_unix_socket_bad_request": "problem+json",
            "httpserver_test.UnixSocketTestFile.test_unix_socket_bad_request": "problem+json",
        },
    ),
    Difference(
        "Lines that end in LF alone are refused: proxies may understand them differently. Tornado "
        "6.7 refuses them, too.",
        {
            "httpserver_test.HTTPConnectionTest.test_newlines": "!= b'Hello world'",
            "httpserver_test.HTTPServerRawTest.test_chunked_request_body_duplicate_header": NO_LOG,
            "httpserver_test.HTTPServerRawTest"
            ".test_chunked_request_body_transfer_encoding_and_content_length": NO_LOG,
            "httpserver_test.HTTPServerRawTest"
            ".test_chunked_request_body_unsupported_transfer_encoding": NO_LOG,
        },
        "Lines end in CR LF, and contain no other CR or LF.",
    ),
    Difference(
        "HTTP/1.0 has no Transfer-Encoding: the framing is faulty (RFC 9112, 6.1).",
        {"httpserver_test.KeepAliveTest.test_keepalive_chunked": "b'HTTP/1.1 400 Bad Request"},
        "Unsupported Transfer-Encoding",
    ),
    Difference(
        "The server frames a response: a Transfer-Encoding that a handler sets beside a "
        "Content-Length is not sent (RFC 9112, 6.2).",
        {
            "simple_httpclient_test.ChunkedWithContentLengthTest"
            ".test_chunked_with_content_length": "HTTPStreamClosedError not raised"
        },
    ),
    Difference(
        "Whoever closes after a response says so (RFC 9112, 9.6), to clients of HTTP/1.0 as well.",
        {"httpserver_test.KeepAliveTest.test_http10": "'Connection' unexpectedly found"},
    ),
    Difference(
        "A head may have 16 kB in every service. The test needs a smaller limit.",
        {"httpserver_test.MaxHeaderSizeTest.test_large_headers": "did not raise expected"},
    ),
    Difference(
        "A target with characters that no URL has is refused (RFC 9112, 3.2; RFC 3986, 2): a "
        "quotation mark, angle brackets, a backslash.",
        {
            "security_corpus_test.SecurityCorpusTest.test_cases": "b'400'] != [b'HTTP/1.1',",
            "web_test.CacheTest.test_multiple_strong_etag_match": "400 != 304",
            "web_test.CacheTest.test_multiple_strong_etag_not_match": "400 != 200",
            "web_test.CacheTest.test_multiple_weak_etag_match": "400 != 304",
            "web_test.CacheTest.test_multiple_weak_etag_not_match": "400 != 200",
            "web_test.CacheTest.test_strong_etag_match": "400 != 304",
            "web_test.CacheTest.test_strong_etag_not_match": "400 != 200",
            "web_test.CacheTest.test_weak_etag_match": "400 != 304",
            "web_test.CacheTest.test_weak_etag_not_match": "400 != 200",
            "web_test.CacheTest.test_wildcard_etag": "400 != 304",
            "web_test.StaticDefaultFilenameRootTest.test_no_open_redirect_backslash": NO_LOG,
            "web_test.StatusReasonTest.test_reason_xss": "'Bad Request' != 'Unknown'",
        },
        "The request target is malformed.",
    ),
)
