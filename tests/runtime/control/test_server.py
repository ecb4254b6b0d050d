"""The control socket: who may use it, and what clients can and cannot do to the service."""

import errno
import os
import resource
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from runtime.control import server as module
from runtime.control.protocol import Message, decode, default_path, encode, private_folder
from runtime.control.server import (
    MAX_CLIENTS,
    MAX_REQUEST_SIZE,
    ControlClient,
    ControlServer,
    open_control,
)
from runtime.errors import StartupError
from runtime.testing import WAIT_TIMEOUT, Record

from tests.runtime.support.clock import FakeClock
from tests.runtime.support.control import PATH
from tests.runtime.support.waiting import wait_for

NOBODY = 65534
REFUSED = "only root and the user of the service may do that"

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@pytest.fixture(autouse=True)
def _temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let each test have a temporary folder of its own, with a short name."""
    monkeypatch.setenv("TMPDIR", "tmp")
    Path("tmp").mkdir()
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)


@pytest.fixture
def client(server: ControlServer) -> Iterator[socket.socket]:
    """A client that is connected."""
    with connect() as client:
        assert server.receive() == []
        yield client


def connect() -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(WAIT_TIMEOUT)
    client.connect(os.fspath(PATH))
    return client


def receive(server: ControlServer, count: int = 1) -> list[tuple[ControlClient, Message]]:
    """Let the server receive until it has so many requests."""
    requests: list[tuple[ControlClient, Message]] = []

    def has_enough() -> bool:
        requests.extend(server.receive())
        return len(requests) >= count

    wait_for(has_enough)
    return requests


def response(client: socket.socket) -> Message:
    """Return the only line that a client gets before the end of the connection."""
    data = b""
    with suppress(ConnectionResetError):  # it has sent what nobody has read
        while piece := client.recv(65536):
            data += piece
    return decode(data)


def clock_of_server(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Take the clock of the server over, without a jump."""
    clock = FakeClock(monkeypatch, module)
    clock.now = time.monotonic()
    return clock


# Requests


def test_request_is_answered_line_by_line(server: ControlServer, client: socket.socket) -> None:
    client.sendall(b'{"command":')
    assert server.receive() == []
    client.sendall(b' "status"}\n')
    [(asked, request)] = receive(server)
    assert request == {"command": "status"}
    asked.send({"progress": "half"})
    asked.finish(True, "done", status={})
    server.receive()
    with client.makefile("rb") as lines:
        assert [decode(line) for line in lines] == [
            {"progress": "half"},
            {"success": True, "message": "done", "status": {}},
        ]


@pytest.mark.parametrize(
    "data",
    [b"\n", b"status\n", b"\xff\xfe\n", b"7\n", b"[" * MAX_REQUEST_SIZE + b"\n", b'{}\n{}\n',
     b"x" * (MAX_REQUEST_SIZE + 1), b'{"a": "' + b"x" * MAX_REQUEST_SIZE + b'"}\n'],
)  # fmt: skip
def test_garbage_is_refused(server: ControlServer, client: socket.socket, data: bytes) -> None:
    client.sendall(data)
    assert server.receive() == []
    answer = response(client)
    assert answer["success"] is False
    assert answer["message"].startswith("not a request: ")
    assert server.receive() == []


@pytest.mark.parametrize(
    ("identity", "is_meant"),
    [
        ({}, True),
        ({"service": "orders", "admin_port": 9000}, True),
        ({"service": "prices"}, False),
        ({"service": "orders", "admin_port": 9001}, False),
    ],
)
def test_request_for_another_service_is_refused(identity: Message, is_meant: bool) -> None:
    server = open_control(PATH, "orders", 9000)
    assert server
    with connect() as client:
        client.sendall(encode({"command": "stop", **identity}))
        assert bool(server.receive() or server.receive()) is is_meant
        if not is_meant:
            reason = "another service listens on control.sock: orders, with admin port 9000"
            assert response(client) == {"success": False, "message": reason}
    server.receive()
    server.close()


def test_client_that_says_more_is_disconnected(
    server: ControlServer, client: socket.socket
) -> None:
    client.sendall(b"{}\n")
    [(asked, _)] = receive(server)
    client.sendall(b"{}\n")
    assert server.receive() == []
    assert asked.is_closed


def test_client_that_leaves_is_forgotten(server: ControlServer, client: socket.socket) -> None:
    client.sendall(b"{}\n")
    [(asked, _)] = receive(server)
    client.close()
    asked.send({"progress": "unheard"})
    server.receive()
    asked.finish(True, "unheard")
    assert asked.is_closed
    assert server.receive() == []


def test_client_that_asks_nothing_is_disconnected(
    server: ControlServer, client: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = clock_of_server(monkeypatch)
    with connect() as late:
        server.receive()
        clock.now += module.REQUEST_TIMEOUT - 1
        client.sendall(b"{")
        server.receive()
        clock.now += 2
        server.receive()
        assert client.recv(1) == late.recv(1) == b""


def test_client_that_waits_gets_signs_of_life(
    server: ControlServer, client: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = clock_of_server(monkeypatch)
    client.sendall(b"{}\n")
    [(asked, _)] = receive(server)
    for _ in range(100):
        clock.now += 0.5
        server.receive()
    lines = client.recv(65536).splitlines()
    assert 45 < len(lines) < 55
    assert set(lines) == {encode({"alive": True}).strip()}
    assert not asked.is_closed


def test_client_that_does_not_read_is_disconnected(
    server: ControlServer, client: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = clock_of_server(monkeypatch)
    client.sendall(b"{}\n")
    [(asked, _)] = receive(server)
    asked.finish(True, "x" * 1_000_000)
    for _ in range(3):  # as long as it reads something, however slowly
        clock.now += module.READ_TIMEOUT - 1
        client.recv(200_000)
        server.receive()
    assert not asked.is_closed
    clock.now += module.READ_TIMEOUT + 1
    server.receive()
    assert asked.is_closed


def test_output_that_nobody_reads_is_bounded(
    server: ControlServer, client: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OUTPUT_SIZE", 1_000_000)
    client.sendall(b"{}\n")
    [(asked, _)] = receive(server)
    sent = 0
    while not asked.is_closed:
        asked.send({"progress": "x" * 10_000})
        sent += 10_000
        assert sent < 3_000_000
    server.receive()


def test_hundred_clients_at_once(server: ControlServer) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connect()) for _ in range(100)]
        for number, client in enumerate(clients):
            client.sendall(encode({"number": number}))
        for asked, request in receive(server, 100):
            asked.finish(True, str(request["number"]))
        server.receive()
        assert [response(client)["message"] for client in clients] == list(map(str, range(100)))


def test_more_clients_than_fit_are_refused(server: ControlServer) -> None:
    with ExitStack() as stack:
        for _ in range(MAX_CLIENTS):
            stack.enter_context(connect())
            server.receive()
        late = stack.enter_context(connect())
        server.receive()
        assert response(late) == {
            "success": False,
            "message": "too many commands at the same time",
        }
    server.receive()
    with connect() as client:
        client.sendall(b"{}\n")
        assert len(receive(server)) == 1


def test_descriptor_is_readable_when_there_is_something_to_do(server: ControlServer) -> None:
    assert not is_readable(server)
    with connect() as client:
        assert is_readable(server)
        server.receive()
        assert not is_readable(server)
        client.sendall(b"{}\n")
        assert is_readable(server)
        receive(server)
        assert not is_readable(server)
    assert is_readable(server)
    server.receive()
    assert not is_readable(server)


def is_readable(server: ControlServer) -> bool:
    return bool(select.select([server], [], [], 0)[0])


def test_service_without_descriptors_accepts_later(
    server: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/dev/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(highest, 3), hard))
    try:
        server.receive()
        assert not is_readable(server)  # it would be busy with that client otherwise
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    client.sendall(b"{}\n")
    clock = clock_of_server(monkeypatch)
    assert server.receive() == []
    clock.now += module.ACCEPT_PAUSE + 1
    assert len(receive(server)) == 1
    client.close()


# The file


def test_socket_is_for_its_user_alone_and_deleted_at_the_end(server: ControlServer) -> None:
    assert PATH.stat().st_mode & 0o777 == 0o600
    server.close()
    assert not PATH.exists()


@as_root
def test_other_users_are_refused(server: ControlServer) -> None:
    for folder in [Path.cwd(), *Path.cwd().parents]:
        folder.chmod(folder.stat().st_mode | 0o755)
    assert answer_to(NOBODY, server) == "Permission denied"
    PATH.chmod(0o666)
    assert answer_to(NOBODY, server) == REFUSED
    os.seteuid(NOBODY)  # the user of the service
    try:
        assert answer_to(NOBODY, server) == "accepted"
    finally:
        os.seteuid(0)


def answer_to(user: int, server: ControlServer) -> str:
    """Return what a process of another user gets that sends a request."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(user, user, user)
            with connect() as client:
                with suppress(BrokenPipeError):  # it is refused without its request
                    client.sendall(encode({"command": "status"}))
                os.write(writer, response(client)["message"].encode())
        except OSError as error:
            os.write(writer, str(error.strerror).encode())
        finally:
            os._exit(0)
    os.close(writer)

    def has_exited() -> bool:
        for asked, _ in server.receive():
            asked.finish(True, "accepted")
        return os.waitpid(pid, os.WNOHANG) != (0, 0)

    wait_for(has_exited)
    with os.fdopen(reader) as file:
        return file.read()


def test_leftover_is_replaced(server: ControlServer) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind("left.sock")
    with pytest.raises(ConnectionRefusedError), socket.socket(socket.AF_UNIX) as client:
        client.connect("left.sock")
    again = ControlServer(Path("left.sock"))
    again.close()
    assert not Path("left.sock").exists()


@pytest.mark.parametrize("is_full", [False, True])
def test_socket_of_another_process_is_not_replaced(server: ControlServer, is_full: bool) -> None:
    with ExitStack() as stack:
        if is_full:  # of a process that does not accept
            other = stack.enter_context(socket.socket(socket.AF_UNIX))
            PATH.unlink()
            other.bind(os.fspath(PATH))
            other.listen(0)
            stack.enter_context(connect())
        with pytest.raises(StartupError) as caught:
            open_control(PATH, "orders", 9000)
    expected = "cannot open the control socket control.sock: another process listens there"
    assert str(caught.value) == expected


def test_socket_that_has_been_replaced_stays(server: ControlServer) -> None:
    PATH.unlink()
    PATH.touch()
    server.close()
    assert PATH.exists()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing/control.sock", os.strerror(errno.ENOENT)),
        ("file", os.strerror(errno.EADDRINUSE)),
        ("file/control.sock", os.strerror(errno.ENOTDIR)),
        ("x" * 110, "its path has 110 bytes, and at most 103 are possible"),
        ("/sys/control.sock", ""),  # read-only, or forbidden
    ],
)
def test_path_that_cannot_be_used_is_one_line(path: str, reason: str) -> None:
    Path("file").touch()
    with pytest.raises(StartupError) as caught:
        open_control(Path(path), "orders", 9000)
    assert str(caught.value).startswith(f"cannot open the control socket {path}: {reason}")
    assert str(caught.value).count("\n") == 0
    assert Path("file").exists()


def test_default_is_in_the_folder_of_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/orders:/run/more")
    assert default_path("orders", 9000) == Path("/run/orders/control.sock")


def test_default_is_in_a_private_folder(log_records: list[Record]) -> None:
    umask = os.umask(0)
    try:
        for port in 9000, 9001:
            server = open_control(None, "orders", port)
            assert server
            path = private_folder("orders") / f"{port}.sock"
            assert path == default_path("orders", port)
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.parent.stat().st_mode & 0o777 == 0o700
            server.close()
    finally:
        os.umask(umask)
    assert log_records == []


@pytest.mark.parametrize(
    "squat",
    [
        lambda folder: folder.mkdir(0o755),
        lambda folder: folder.mkdir(0o770),
        lambda folder: folder.touch(0o700),
        lambda folder: folder.symlink_to(Path("elsewhere").absolute()),
        pytest.param(lambda folder: (folder.mkdir(0o700), os.chown(folder, 1, 1)), marks=as_root),
        lambda folder: Path("tmp").rmdir(),
    ],
    ids=["readable", "group", "file", "link", "other-user", "no-folder"],
)
def test_default_that_cannot_be_used_is_a_warning(squat: object, log_records: list[Record]) -> None:
    Path("elsewhere").mkdir(0o700)
    assert callable(squat)
    squat(private_folder("orders"))
    assert open_control(None, "orders", 9000) is None
    [record] = log_records
    assert record["level"] == "warning"
    path = default_path("orders", 9000)
    assert record["message"].startswith(f"cannot open the control socket {path}: ")
    assert record["message"].endswith("; the commands status, reload, stop and workers do not work")
    assert list(Path("elsewhere").iterdir()) == []


def test_group_of_the_temporary_folder_is_inherited(log_records: list[Record]) -> None:
    Path("tmp").chmod(0o3777)  # as in a volume with fsGroup
    server = open_control(None, "orders", 9000)
    assert server
    assert private_folder("orders").stat().st_mode & 0o2777 == 0o2700
    server.close()
    assert log_records == []


def test_default_needs_no_room_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)  # as at the start
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        server = open_control(None, "orders", 9000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert server
    server.close()


def test_without_unix_sockets_there_is_no_control(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    assert open_control(None, "orders", 9000) is None


# Forks


def test_fork_keeps_nothing_open(server: ControlServer, client: socket.socket) -> None:
    client.sendall(b"{}\n")
    receive(server)
    [accepted] = server._clients
    own = {os.fstat(sock.fileno()).st_ino for sock in (accepted.sock, server._listener)}
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        left = [fd for fd in map(int, os.listdir("/dev/fd")) if inode(fd) in own]
        server.close()  # as when the child exits
        os.write(writer, repr(left).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 100) == b"[]"
    os.close(reader)
    os.close(writer)
    assert PATH.exists()
    with connect() as another:
        another.sendall(b"{}\n")
        assert len(receive(server)) == 1


def inode(fd: int) -> int:
    try:
        return os.fstat(fd).st_ino
    except OSError:  # that of the list of descriptors
        return -1


def test_clients_that_wait_for_the_end_read_eof_only_then(
    server: ControlServer, client: socket.socket
) -> None:
    client.sendall(b"{}\n")
    [(asked, _)] = receive(server)
    asked.send({"success": True, "message": "stopped"})
    sock = asked.sock
    fd = sock.fileno()
    server.close()
    assert decode(client.recv(100))["message"] == "stopped"
    client.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.recv(1)
    os.close(fd)  # as the end of the process does
    assert client.recv(1) == b""
