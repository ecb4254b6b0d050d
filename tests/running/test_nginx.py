"""Nginx in front of the service: what is believed, refused, limited and logged."""

import asyncio
import contextlib
import gzip
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path

import pytest
from runtime.testing import open_events
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from .harness import PATIENCE, Answer, Starter, parse, read_to_end, until
from .hostile import LAST_CHUNK, SECRET, SECRETS, get, head
from .nginx import Front, check_problem, front, fronted

LIMIT = 1024 * 1024

NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def proxied(python: Path, two: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A service behind Nginx, without limits, which these tests leave as it is."""
    with fronted(python, tmp_path_factory.mktemp("proxied"), two) as made:
        yield made


@pytest.fixture
def identifier() -> str:
    """An id that no other request has."""
    return f"id-{next(NUMBERS)}"


def raw(made: Front, data: bytes) -> bytes:
    """Send a message and return all that comes back."""
    with made.connect() as connection:
        connection.sendall(data)
        return read_to_end(connection)


def never_served(made: Front, identifier: str) -> bool:
    """Tell whether the service has seen nothing of a request, whatever waits in its log."""
    marker = f"marker-{next(NUMBERS)}"
    assert made.ask("/", f"X-Request-ID: {marker}").status == 200
    until(lambda: made.served(marker), f"{marker} in the log of the service")
    return made.served(identifier) == []


def test_connections_to_the_service_are_kept(proxied: Front) -> None:
    peers = Counter(proxied.ask("/told").json["peer"] for _ in range(40))
    # Each of two processes of Nginx keeps some to each of two workers.
    assert len(peers) <= 8


# What the service believes

LIES = [
    "X-Forwarded-For: 203.0.113.9",
    "X-Real-IP: 203.0.113.9",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.example",
    "Forwarded: for=203.0.113.9;proto=https;host=evil.example",
    "X-Scheme: https",
    "X_Forwarded_For: 203.0.113.9",
]


def believed(answer: Answer) -> tuple[str, str, str]:
    assert answer.status == 200
    return tuple(answer.json[name] for name in ("remote_ip", "protocol", "host"))


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.5"])
@pytest.mark.parametrize("lies", [*([lie] for lie in LIES), LIES, LIES * 2], ids=len)
def test_forged_headers_change_nothing(
    proxied: Front, lies: list[str], source: str, identifier: str
) -> None:
    # Nginx itself comes from the first of these addresses, which the service trusts.
    answer = proxied.ask("/told", f"X-Request-ID: {identifier}", *lies, source=source)
    assert believed(answer) == (source, "http", "localhost")
    until(lambda: proxied.served(identifier), "a record")
    assert proxied.served(identifier)[0]["client.address"] == source
    assert proxied.logged(identifier)["client.address"] == source
    arrived = {name.lower(): value for name, value in answer.json["headers"]}
    assert arrived["x-forwarded-for"] == arrived["x-real-ip"] == source
    assert arrived.keys().isdisjoint({"x-forwarded-host", "forwarded", "x_forwarded_for"})


def test_at_the_service_itself_only_nginx_is_believed(proxied: Front) -> None:
    lies = ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https"]

    def ask(source: str) -> Answer:
        port, proxied_port = proxied.service.port, proxied.port
        proxied.port = port
        try:
            return proxied.ask("/told", *lies, source=source)
        finally:
            proxied.port = proxied_port

    assert believed(ask("127.0.0.5")) == ("127.0.0.5", "http", "localhost")
    assert believed(ask("127.0.0.1")) == ("203.0.113.9", "https", "localhost")


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/told", "evil.example"),
        ("/told", "EVIL.example"),
        ("/told", "evil.example:80"),
        ("/told", "localhost.evil.example"),
        ("/told", "evil.localhost"),
        ("/told", "127.0.0.2"),
        ("/told", "[::2]"),
        ("/told", "localhost@evil.example"),
        ("/told", "_"),
        ("http://evil.example/told", "localhost"),
        ("http://evil.example:80/told", "evil.example"),
    ],
)
def test_other_names_are_refused(proxied: Front, target: str, host: str, identifier: str) -> None:
    answer = proxied.ask(target, f"X-Request-ID: {identifier}", host=host)
    check_problem(answer, 421, "Misdirected Request")
    assert answer.headers["x-request-id"] == identifier
    assert proxied.logged(identifier)["http.response.status_code"] == 421
    assert never_served(proxied, identifier)


@pytest.mark.parametrize(
    ("target", "host", "seen"),
    [
        ("/told", "LOCALHOST", "localhost"),
        ("/told", "localhost.", "localhost"),
        ("/told", "localhost:8080", "localhost:8080"),
        ("/told", "localhost:evil", "localhost"),
        ("/told", "127.0.0.1", "127.0.0.1"),
        ("/told", "[::1]:80", "[::1]:80"),
        ("http://localhost/told", "evil.example", "localhost"),
    ],
)
def test_own_names_are_served(proxied: Front, target: str, host: str, seen: str) -> None:
    assert believed(proxied.ask(target, host=host)) == ("127.0.0.1", "http", seen)


# The id of a request


@pytest.mark.parametrize(
    ("path", "status"), [("/told", 200), ("/refuse/409", 409), ("/nope", 404), ("/fail", 500)]
)
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([], False),
        (["own-{}"], True),
        (["A.b_c:1/2+3=4@5-{}"], True),
        (["x" * 120 + "-{}"], True),
        (["x" * 128 + "{}"], False),
        (["with space {}"], False),
        ([r'with"quote\{}'], False),
        (["with\xff{}"], False),
        (["$request_id{}"], False),
    ],
    ids=["none", "sane", "odd", "longest", "too-long", "space", "quote", "no-utf-8", "variable"],
)
def test_an_id_is_the_same_everywhere(
    proxied: Front, path: str, status: int, given: list[str], kept: bool
) -> None:
    given = [one.format(next(NUMBERS)) for one in given]
    lines = [f"X-Request-ID: {one}" for one in given]
    answer = proxied.ask(path, *lines)
    identifier = answer.headers["x-request-id"]
    assert answer.status == status
    assert (identifier in given) == kept
    if not kept:
        assert re.fullmatch(r"[0-9a-f]{32}", identifier)
    if status != 200:
        assert answer.json["request_id"] == identifier
    assert proxied.logged(identifier)["http.response.status_code"] == status
    until(lambda: proxied.served(identifier), "a record")
    [record] = proxied.served(identifier)
    assert record["http.response.status_code"] == status


def test_of_two_ids_all_take_the_same(proxied: Front) -> None:
    # Up to 1.22 Nginx takes the first, and later ones join them, which makes a new one of it.
    lines = [f"X-Request-ID: {letter}-{next(NUMBERS)}" for letter in "ab"]
    data = raw(proxied, get(*lines, "Connection: close", target="/told"))
    assert data.lower().count(b"\nx-request-id:") == 1
    answer = parse(data)
    identifier = answer.headers["x-request-id"]
    arrived = [value for name, value in answer.json["headers"] if name.lower() == "x-request-id"]
    assert arrived == [identifier]
    assert proxied.logged(identifier)["url.path"] == "/told"
    until(lambda: proxied.served(identifier), "a record")


# Nginx's log


@pytest.mark.parametrize(
    "data",
    [
        get('User-Agent: "quoted" \\ {braces} $request_id', target='/a"b\\c{d}$e'),
        get(b"User-Agent: \xff\xfe caf\xc3\xa9 \xed\xa0\x80", target="/\xff\xfe"),
        get(b"User-Agent: tab\there \x01\x7f", target="/%ff%00%22"),
        head("GET / HTTP/1.1", b'Host: \xff\xfe"\\'),
        head("GET / HTTP/1.1", b"Host: localhost\xff"),
        get(target="http://\xff\xfe/\xff?\xff"),
        get(target="/?", method="G\xffT"),
        head(b"\xff\xfe\x00\x01"),
        head("GET /"),
        get(b"Referer: \xff", target="/?\xff"),
        b'"\\\x01\xff\r\n\r\n',
    ],
    ids=range(11),
)
def test_log_is_json_whatever_comes(proxied: Front, data: bytes) -> None:
    before = len(proxied.log().splitlines())
    with proxied.connect() as connection:
        connection.sendall(data)
        connection.shutdown(1)
        read_to_end(connection)
    until(lambda: len(proxied.log().splitlines()) > before, "a line")
    record = proxied.records()[before]
    assert isinstance(record["http.response.status_code"], int)
    assert record["request_id"]


def test_log_tells_what_was_asked(proxied: Front, identifier: str) -> None:
    lines = [f"X-Request-ID: {identifier}", "User-Agent: test/1"]
    body = b"x" * (LIMIT + 1)
    proxied.ask("/size?a=b", *lines, method="POST", body=body, source="127.0.0.6")
    record = proxied.logged(identifier)
    assert record["http.request.method"] == "POST"
    assert record["url.path"] == "/size"
    assert record["client.address"] == "127.0.0.6"
    assert record["server.address"] == "localhost"
    assert record["user_agent.original"] == "test/1"
    assert record["http.response.status_code"] == 413
    assert record["upstream.address"] == ""


@pytest.mark.parametrize("name", SECRETS)
def test_log_has_no_secrets(proxied: Front, name: str) -> None:
    before = len(proxied.log().splitlines())
    with proxied.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(SECRETS[name])
            connection.shutdown(1)
        read_to_end(connection)
    until(lambda: len(proxied.log().splitlines()) > before, "a line")
    assert proxied.records()[before]["http.response.status_code"]
    assert SECRET.encode() not in proxied.log()


# Compression


def told(made: Front, **headers: str) -> tuple[HTTPMessage, bytes]:
    """Ask what the service believes, with long headers; return headers and body of the answer."""
    connection = HTTPConnection("localhost", made.port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", "/told", headers={"X-Long": "a" * 2000, **headers})
        answer = connection.getresponse()
        return answer.headers, answer.read()


def test_long_json_is_compressed_for_those_who_accept_it(proxied: Front) -> None:
    headers, body = told(proxied, **{"Accept-Encoding": "gzip"})
    assert headers["Content-Type"] == "application/json"
    assert (headers["Content-Encoding"], headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert len(body) < 1024 < len(gzip.decompress(body))
    headers, body = told(proxied, **{"Accept-Encoding": "identity"})
    assert (headers["Content-Encoding"], headers["Vary"]) == (None, "Accept-Encoding")
    assert json.loads(body)["protocol"] == "http"


def test_short_json_is_not_compressed(proxied: Front) -> None:
    headers, body = told(proxied, **{"Accept-Encoding": "gzip", "X-Long": "short"})
    assert headers["Content-Encoding"] is None
    assert len(body) == int(headers["Content-Length"]) < 1024


def test_compression_can_be_switched_off_for_a_location(run: Starter, two: Path) -> None:
    # As the README says, and everything else is as before.
    readme = (two / "deploy/nginx/README.md").read_text()
    [location] = re.findall(r"^location /account/ \{\n.*?^\}\n", readme, re.MULTILINE | re.DOTALL)
    location = location.replace("/account/", "/told")
    made = front(run, two, {"    location / {\n": f"{location}    location / {{\n"})
    headers, body = told(made, **{"Accept-Encoding": "gzip", "X-Forwarded-For": "203.0.113.9"})
    assert headers["Content-Encoding"] is None
    assert json.loads(body)["remote_ip"] == "127.0.0.1"


def test_errors_of_nginx_can_be_for_other_origins(run: Starter, two: Path) -> None:
    origin = "https://app.example"
    made = front(run, two, {f'# "{origin}"': f'"{origin}"'})
    body = b"x" * (LIMIT + 1)
    for sent, allowed in (origin, origin), ("https://elsewhere.example", None):
        answer = made.ask("/size", f"Origin: {sent}", method="POST", body=body)
        check_problem(answer, 413, "Content Too Large")
        assert answer.headers.get("access-control-allow-origin") == allowed


# Errors


def test_a_body_at_the_limit_arrives(proxied: Front) -> None:
    body = b"x" * LIMIT
    assert proxied.ask("/size", method="POST", body=body).json == {"size": LIMIT}
    chunk = b"%x\r\n%s\r\n" % (LIMIT, body)
    chunked = get("Transfer-Encoding: chunked", "Connection: close", method="POST", target="/size")
    assert proxied.send(chunked + chunk + LAST_CHUNK).json == {"size": LIMIT}


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(proxied: Front, chunked: bool, identifier: str) -> None:
    body = b"x" * (LIMIT + 1)
    lines = [f"X-Request-ID: {identifier}", "Connection: close"]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%s\r\n" % (len(body), body) + LAST_CHUNK
    else:
        lines.append(f"Content-Length: {len(body)}")
    answer = proxied.send(get(*lines, method="POST", target="/size") + body)
    check_problem(answer, 413, "Content Too Large")
    assert answer.headers["x-request-id"] == identifier
    assert proxied.logged(identifier)["upstream.address"] == ""
    assert never_served(proxied, identifier)


@pytest.mark.parametrize(
    ("data", "status", "title"),
    [
        (b"nonsense\r\n\r\n", 400, "Bad Request"),
        (head("GET / HTTP/1.1"), 400, "Bad Request"),
        (get("A b"), 400, "Bad Request"),
        (get("Content-Length: -1"), 400, "Bad Request"),
        (
            get("Content-Length: 5", "Transfer-Encoding: chunked", end=LAST_CHUNK),
            400,
            "Bad Request",
        ),
        (get(target="/%zz"), 400, "Bad Request"),
        (get(target="/../etc/passwd"), 400, "Bad Request"),
        (get("A: " + "b" * 8_000), 400, "Bad Request"),
        (get(*["A: " + "b" * 6_000] * 3), 400, "Bad Request"),
        (get(target="/" + "a" * 8_000), 414, "URI Too Long"),
        (get(method="TRACE"), 405, "Method Not Allowed"),
        (get("Transfer-Encoding: cow"), 501, "Not Implemented"),
        (head("GET / HTTP/3.1", "Host: localhost"), 505, "HTTP Version Not Supported"),
    ],
    ids=range(13),
)
def test_what_nginx_refuses_is_a_problem(
    proxied: Front, data: bytes, status: int, title: str
) -> None:
    answer = proxied.send(data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
    check_problem(answer, status, title)
    assert proxied.logged(answer.headers["x-request-id"])["http.response.status_code"] == status


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 414, 429, 500, 501, 502, 503, 504])
def test_problems_of_the_service_pass_unchanged(
    proxied: Front, status: int, identifier: str
) -> None:
    lines = {"X-Request-ID": identifier}
    answer = proxied.ask(f"/refuse/{status}", f"X-Request-ID: {identifier}")
    direct = proxied.service.ask(f"/refuse/{status}", **lines)
    assert answer.status == direct.status == status
    assert answer.body == direct.body
    assert answer.json["detail"] == "The service says so."
    own = {"server", "date", "connection"}
    for one in (answer, direct):
        one.headers = {name: value for name, value in one.headers.items() if name not in own}
    assert answer.headers == direct.headers


def test_no_service_is_a_problem(run: Starter, two: Path) -> None:
    made = front(run, two)
    assert made.ask("/").status == 200
    made.service.signal()
    assert made.service.wait() == 0
    answer = made.ask("/", "X-Request-ID: nobody-there")
    check_problem(answer, 502, "Bad Gateway")
    assert answer.headers["x-request-id"] == "nobody-there"
    assert made.logged("nobody-there")["upstream.status"] == "502, 502"


def test_a_slow_service_is_a_problem(run: Starter, two: Path) -> None:
    made = front(run, two, {"proxy_read_timeout 60s;": "proxy_read_timeout 3s;"})
    assert made.ask("/sleep/0.5").status == 200
    answer = made.ask("/sleep/9")
    check_problem(answer, 504, "Gateway Timeout")
    record = made.logged(answer.headers["x-request-id"])
    assert record["upstream.status"] == "504, 504"


@pytest.mark.parametrize(
    ("limited", "status", "title"),
    [("429", 429, "Too Many Requests"), ("503", 503, "Service Unavailable")],
)
def test_what_is_too_much_is_a_problem(
    run: Starter, two: Path, limited: str, status: int, title: str
) -> None:
    # Nothing else makes Nginx answer 503 by itself.
    changes = {"burst=200": "burst=1", "status 429;": f"status {limited};"}
    made = front(run, two, {"rate=100r/s": "rate=1r/s", **changes})
    answers = [made.ask("/", f"X-Request-ID: number-{number}") for number in range(4)]
    assert [answer.status for answer in answers] == [200, 200, status, status]
    check_problem(answers[2], status, title)
    assert answers[2].headers["x-request-id"] == "number-2"
    until(lambda: made.served("number-1"), "a record")
    assert not made.served("number-2")


# Limits


async def ask_from(made: Front, source: str, path: str = "/who/0") -> int:
    """Ask from an address; return the status."""
    address = (source, 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port, local_addr=address)
    try:
        writer.write(get("Connection: close", target=path))
        data = await asyncio.wait_for(reader.read(), PATIENCE)
    finally:
        writer.close()
    return parse(data).status


async def asks_from(made: Front, source: str, count: int, path: str = "/who/0") -> Counter[int]:
    """Ask from an address so many times at once; count the statuses."""
    return Counter(await asyncio.gather(*(ask_from(made, source, path) for _ in range(count))))


@pytest.fixture(scope="module")
def limited(python: Path, two: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A service behind Nginx with its limits as they are. Each test has addresses of its own."""
    with fronted(python, tmp_path_factory.mktemp("limited"), two, changes={}) as made:
        yield made


async def test_a_flood_is_limited_and_harms_nobody_else(limited: Front) -> None:
    flood = Counter[int]()
    others = Counter[int]()
    started = time.monotonic()

    async def pour() -> None:
        while sum(flood.values()) < 1500:
            flood.update(await asks_from(limited, "127.0.2.1", 25))

    async def visit(source: str) -> None:
        for _ in range(10):
            others.update(await asks_from(limited, source, 1))

    await asyncio.gather(pour(), pour(), *(visit(f"127.0.2.{n}") for n in range(2, 22)))
    seconds = time.monotonic() - started
    print("flood:", flood, "others:", others, "seconds:", seconds)
    assert others == {200: 200}
    assert flood.keys() == {200, 429}
    # The burst and one more, and what the rate allows in the meantime.
    assert flood[200] <= 201 + 100 * seconds + 1


async def test_requests_at_the_same_time_are_limited(limited: Front) -> None:
    flood, others = await asyncio.gather(
        asks_from(limited, "127.0.3.1", 130, "/sleep/5"),
        asks_from(limited, "127.0.3.2", 20, "/sleep/5"),
    )
    assert flood == {200: 100, 429: 30}
    assert others == {200: 20}


async def test_ordinary_users_are_not_limited(limited: Front) -> None:
    # A page and all that belongs to it, three times, and many people.
    for _ in range(3):
        assert await asks_from(limited, "127.0.4.1", 60) == {200: 60}
    crowd = await asyncio.gather(*(asks_from(limited, f"127.0.4.{n}", 6) for n in range(2, 52)))
    assert sum(crowd, Counter()) == {200: 300}


# The admin port


def targets(admin: int) -> list[str]:
    """List ways to ask for what only the admin port has."""
    found = []
    for name in ("livez", "readyz", "metrics"):
        encoded = f"%{ord(name[0]):x}{name[1:]}"
        found += [
            f"/{name}", f"//{name}", f"///{name}", f"/./{name}", f"/x/../{name}", f"/x/..//{name}",
            f"/{encoded}", f"/%2f{name}", f"/..%2f{name}", f"/%2e/{name}", f"/x/%2e%2e/{name}",
            f"/{name}/", f"/{name}?x", f"/{name};x", f"/{name}%00", f"/{name}%20",
            f"/{name.upper()}", f"/:{admin}/{name}", f"//127.0.0.1:{admin}/{name}",
            f"/@127.0.0.1:{admin}/{name}",
        ]  # fmt: skip
        for port in (9000, admin):
            found += [
                f"http://localhost:{port}/{name}", f"http://127.0.0.1:{port}/{name}",
                f"http://localhost@127.0.0.1:{port}/{name}", f"localhost:{port}/{name}",
            ]  # fmt: skip
    return found


def test_the_admin_port_is_not_reached(proxied: Front) -> None:
    admin = proxied.service.admin_port
    healthy = proxied.service.ask("/readyz", admin=True)
    assert healthy.status == 200
    reached = []
    statuses = Counter[int]()
    hosts = ["localhost", "localhost:9000", f"localhost:{admin}", f"127.0.0.1:{admin}", "admin"]
    for target in targets(admin):
        for host in hosts:
            answer = proxied.ask(target, host=host)
            statuses[answer.status] += 1
            if answer.status < 400 or healthy.body in answer.body:
                reached.append((target, host, answer.status))
    assert reached == []
    assert statuses.keys() <= {400, 404, 421}
    assert statuses[404] > 100  # those are of the public service
    for target in (f"127.0.0.1:{admin}", f"localhost:{admin}", f"http://localhost:{admin}/"):
        assert proxied.ask(target, method="CONNECT").status >= 400


# WebSockets and large headers


def handshake(made: Front, origin: str) -> HTTPRequest:
    url = f"ws://localhost:{made.port}/echo"
    return HTTPRequest(url, headers={"Origin": origin}, request_timeout=PATIENCE)


async def test_a_websocket_echoes(proxied: Front) -> None:
    # As a browser does it: the port is not the usual one, so it is named.
    echo = await websocket_connect(handshake(proxied, f"http://localhost:{proxied.port}"))
    for message in ("héllo", b"\x00\xff", "x" * 100_000):
        await echo.write_message(message, binary=isinstance(message, bytes))
        assert await echo.read_message() == message
    echo.close()
    assert await echo.read_message() is None


async def test_an_event_is_passed_on_at_once(proxied: Front) -> None:
    def streams() -> int:
        workers = proxied.service.ask("/workers", admin=True).json["workers"]
        return sum(worker["event_streams"] for worker in workers)

    async with open_events(proxied.port, "/greet", Accept_Encoding="gzip") as events:
        assert "Content-Encoding" not in events.headers
        assert (await anext(events)).data == "hello"  # and not when it ends
        assert await asyncio.to_thread(until, streams, "an open stream") == 1
    await asyncio.to_thread(until, lambda: not streams(), "the end of the stream")


@pytest.mark.parametrize("origin", ["http://localhost:1", "http://localhost", "http://evil"])
async def test_a_websocket_from_elsewhere_is_refused(proxied: Front, origin: str) -> None:
    with pytest.raises(HTTPClientError) as error:
        await websocket_connect(handshake(proxied, origin))
    assert error.value.code == 403


@pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.0", "websocket, h2c", "h2c, websocket", "x"])
def test_no_other_upgrade_arrives(proxied: Front, upgrade: str) -> None:
    lines = [f"Upgrade: {upgrade}", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMA"]
    with proxied.connect() as connection:
        connection.sendall(get(*lines, target="/told") + get("Connection: close"))
        answer = parse(read_to_end(connection))
    assert answer.status == 200
    told = answer.body.partition(b"HTTP/1.1 ")[0].lower()
    assert b'"x-real-ip"' in told
    assert b'"upgrade"' not in told
    assert b'"connection"' not in told


def test_headers_that_pass_nginx_are_taken_by_the_service(proxied: Front) -> None:
    statuses = Counter[int]()
    largest = 0
    identifier = "X-Request-ID: " + "i" * 128
    for size in range(7_000, 7_200, 20):
        for filling in range(500, 1_000, 50):
            # Small lines, which share its first buffer, and two that take a buffer each.
            lines = ["A: " + "a" * filling, identifier, "B: " + "b" * size, "C: " + "c" * size]
            answer = proxied.ask("/who/0", *lines)
            statuses[answer.status] += 1
            if answer.status == 200:
                largest = max(largest, len("".join(lines)))
    print("answers:", statuses, "largest headers:", largest)
    assert statuses.keys() == {200, 400}
    assert largest > 14_900
