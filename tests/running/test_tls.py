"""TLS in front of the service: who is let in, who is sent there, and what the service knows."""

import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from ..tools import needs
from .harness import PATIENCE, parse, read_to_end, until
from .hostile import get
from .nginx import UNLIMITED, Front, check_problem, fronted

HSTS = "max-age=63072000"
TOO_LARGE = "Content-Length: 1048577"


@pytest.fixture(scope="module")
def secured(
    python: Path, bake: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    """A service behind Nginx with tls.conf enabled."""
    folder = tmp_path_factory.mktemp("secured")
    with fronted(python, folder, bake(workers="2"), changes=UNLIMITED, tls=True) as made:
        yield made


def handshake(made: Front, context: ssl.SSLContext) -> ssl.SSLSocket:
    connection = socket.create_connection(("127.0.0.1", made.tls_port), PATIENCE)
    return context.wrap_socket(connection, server_hostname="localhost")


def between(
    made: Front, oldest: ssl.TLSVersion, newest: ssl.TLSVersion, ciphers: str = "ALL"
) -> ssl.SSLContext:
    """Make a client that speaks these versions and does not mind how weak they are."""
    context = ssl.create_default_context(cafile=made.certificate)
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = oldest, newest
    return context


# Handshakes


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_this_version_is_spoken(secured: Front, version: ssl.TLSVersion) -> None:
    with handshake(secured, between(secured, version, version)) as connection:
        assert connection.version() == version.name.replace("_", ".")
        connection.sendall(get("Connection: close", target="/told"))
        answer = parse(read_to_end(connection))
    assert answer.json["protocol"] == "https"
    record = secured.logged(answer.headers["x-request-id"])
    assert record["tls.protocol.version"] == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_this_version_is_refused(secured: Front, version: ssl.TLSVersion) -> None:
    with pytest.raises(ssl.SSLError) as error:
        handshake(secured, between(secured, version, version))
    # It is Nginx that refuses, and the version and not the ciphers.
    assert error.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


@pytest.mark.parametrize("cipher", ["AES128-SHA", "ECDHE-RSA-AES128-SHA", "AES256-GCM-SHA384"])
def test_weak_ciphers_are_refused(secured: Front, cipher: str) -> None:
    version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError) as error:
        handshake(secured, between(secured, version, version, cipher))
    assert error.value.reason == "SSLV3_ALERT_HANDSHAKE_FAILURE"


def test_a_client_that_does_not_know_the_certificate_goes(secured: Front) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(secured, ssl.create_default_context())


def test_http_2_is_chosen(secured: Front) -> None:
    context = between(secured, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with handshake(secured, context) as connection:
        assert connection.selected_alpn_protocol() == "h2"
    context.set_alpn_protocols(["http/1.1"])
    with handshake(secured, context) as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"


def curl(made: Front, path: str, *arguments: str) -> tuple[str, str, bytes]:
    """Ask over HTTP/2. Returns status and version of HTTP, and the body."""
    tool = needs("curl")
    said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
    assert "HTTP2" in said, "this curl knows nothing of HTTP/2"
    done = subprocess.run(
        [tool, "--silent", "--http2", "--cacert", made.certificate, "--max-time", "30",
         "--write-out", "\n%{http_code} %{http_version}", *arguments,
         f"https://localhost:{made.tls_port}{path}"],
        capture_output=True,
    )  # fmt: skip
    body, _, last = done.stdout.rpartition(b"\n")
    status, version = last.decode().split()
    return status, version, body


def test_http_2_is_answered(secured: Front) -> None:
    status, version, body = curl(secured, "/told?a=b", "-H", "X-Forwarded-Proto: http")
    told = json.loads(body)
    assert (status, version) == ("200", "2")
    assert (told["protocol"], told["uri"]) == ("https", "/told?a=b")
    assert told["host"] == f"localhost:{secured.tls_port}"
    assert curl(secured, "/size", "--data-binary", "x" * 100)[2] == b'{"size":100}'


def test_http_2_gets_problems(secured: Front) -> None:
    for path, options, status in (
        ("/nope", [], "404"),
        ("/told", ["-H", "Host: evil.example"], "421"),
    ):
        code, version, body = curl(secured, path, *options)
        assert (code, version) == (status, "2")
        assert json.loads(body)["status"] == int(status)


def test_large_headers_over_http_2_are_taken_by_the_service(secured: Front) -> None:
    passed = refused = 0
    for size in range(6_500, 7_500, 50):
        headers = [f"{letter}: {letter * size}" for letter in "AB"]
        status, _, _ = curl(secured, "/who/0", "-H", headers[0], "-H", headers[1])
        if status == "200":
            passed += 1
        else:
            # Nginx may close the connection without an answer.
            assert status in {"000", "400"}
            refused += 1
    assert passed > 5
    assert refused > 5


def test_log_tells_of_a_client_that_has_left(secured: Front) -> None:
    curl(secured, "/sleep/9", "--max-time", "3", "-H", "X-Request-ID: left")
    record = secured.logged("left")
    assert record["network.protocol.version"] == "HTTP/2.0"
    assert record["http.response.status_code"] == 499


# Redirection


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "target", ["/", "/told?a=b%20c&d=%2F", "/a/%2e%2e//x?", "/greetings/%C3%A9"]
)
def test_plain_http_leads_to_tls(secured: Front, method: str, target: str) -> None:
    answer = secured.ask(target, method=method)
    assert answer.status == 308
    assert answer.headers["location"] == f"https://localhost{target}"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example"])
def test_other_names_lead_nowhere(secured: Front, host: str) -> None:
    for tls in (False, True):
        answer = secured.ask("/told", host=host, tls=tls)
        check_problem(answer, 421, "Misdirected Request")
        assert "location" not in answer.headers


def test_challenges_of_acme_are_not_redirected(secured: Front) -> None:
    # The service has no answer, but it is asked.
    answer = secured.ask("/.well-known/acme-challenge/token", "X-Request-ID: acme")
    check_problem(answer, 404, "Not Found")
    until(lambda: secured.served("acme"), "a record")
    for near in ("/.well-known/acme-challenge", "/.well-known/x", "/x/.well-known/acme-challenge/"):
        assert secured.ask(near).status == 308


def test_plain_http_on_the_port_of_tls_is_a_problem(secured: Front) -> None:
    with socket.create_connection(("127.0.0.1", secured.tls_port), PATIENCE) as connection:
        connection.sendall(get())
        check_problem(parse(read_to_end(connection)), 400, "Bad Request")


# HSTS


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get("Connection: close", target="/told"), 200),
        (get("Connection: close", target="/nope"), 404),
        (get("Connection: close", target="/refuse/503"), 503),
        (get("Connection: close", TOO_LARGE, method="POST", end=b"x" * 1_048_577), 413),
        (get("Connection: close", method="TRACE"), 405),
        (get("Connection: close", "A b"), 400),
        (get("Connection: close", "A: " + "a" * 9_000), 400),
    ],
    ids=["200", "404", "503", "413", "405", "400", "too-large"],
)
def test_hsts_is_sent_over_tls_alone(secured: Front, data: bytes, status: int) -> None:
    answer = secured.send(data, tls=True)
    assert answer.status == status
    assert answer.headers["strict-transport-security"] == HSTS
    plain = secured.send(data)
    assert plain.status in {308, status}
    assert "strict-transport-security" not in plain.headers


def test_without_tls_there_is_no_hsts(
    python: Path, bake: Callable[..., Path], tmp_path: Path
) -> None:
    with fronted(python, tmp_path, bake(workers="2")) as made:
        for target, status in (("/told", 200), ("/nope", 404)):
            answer = made.ask(target)
            assert answer.status == status
            assert "strict-transport-security" not in answer.headers


# What the service believes


def test_the_service_knows_that_it_is_tls(secured: Front) -> None:
    lies = ["X-Forwarded-Proto: http", "X-Forwarded-For: 203.0.113.9", "X-Scheme: http"]
    told = secured.ask("/told", *lies, source="127.0.0.7", tls=True).json
    assert (told["protocol"], told["remote_ip"]) == ("https", "127.0.0.7")


async def test_a_websocket_echoes_over_tls(secured: Front) -> None:
    host = f"localhost:{secured.tls_port}"
    request = HTTPRequest(
        f"wss://{host}/echo",
        headers={"Origin": f"https://{host}"},
        ca_certs=str(secured.certificate),
        request_timeout=PATIENCE,
    )
    echo = await websocket_connect(request)
    await echo.write_message("héllo")
    assert await echo.read_message() == "héllo"
    echo.close()
    assert await echo.read_message() is None
