import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from runtime.errors import StartupError
from runtime.process import sockets
from runtime.process.listener import Listener
from runtime.process.sockets import listening_url
from runtime.settings import Settings

Opened = tuple[list[list[socket.socket]], list[socket.socket]]
Open = Callable[..., Opened]
PassSockets = Callable[..., None]

FREE_PORTS = {"port": 0, "admin_port": 0}
FIRST_FD = 200
"""Above all descriptors that a process has open by itself."""


@pytest.fixture
def open_ports() -> Iterator[Open]:
    """Open sockets as the service does, and close them at the end of the test."""
    opened: list[socket.socket] = []

    def open_ports(*ports: int, **settings: object) -> Opened:
        public, admin = sockets.open_sockets(
            Settings.model_validate({**FREE_PORTS, **settings}), ports
        )
        opened.extend(sock for group in (*public, admin) for sock in group)
        return public, admin

    yield open_ports
    for sock in opened:
        sock.close()
    os.closerange(FIRST_FD, FIRST_FD + 3)  # passed, but not inherited


@pytest.fixture
def pass_sockets(monkeypatch: pytest.MonkeyPatch) -> PassSockets:
    """Pass descriptors as systemd does, but not from 3, which the tests may need."""

    def pass_sockets(*descriptors: int, pid: int | str = os.getpid()) -> None:
        for fd, descriptor in enumerate(descriptors, FIRST_FD):
            os.dup2(descriptor, fd)
        monkeypatch.setattr(sockets, "SD_LISTEN_FDS_START", FIRST_FD)
        monkeypatch.setenv("LISTEN_PID", str(pid))
        monkeypatch.setenv("LISTEN_FDS", str(len(descriptors)))
        monkeypatch.setenv("LISTEN_FDNAMES", "http")

    return pass_sockets


@pytest.fixture
def listening() -> Iterator[list[socket.socket]]:
    """Three sockets that another process has opened, such as systemd."""
    three = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    yield three
    for sock in three:
        sock.close()


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def accepts(sock: socket.socket) -> bool:
    with socket.socket(sock.family) as probe:
        return probe.connect_ex(sock.getsockname()) == 0


def queued(sock: socket.socket) -> int:
    """Accept and count the queued connections."""
    count = 0
    with suppress(BlockingIOError):
        while True:
            sock.accept()[0].close()
            count += 1
    return count


def can_share(port: int) -> bool:
    """Return whether another socket with SO_REUSEPORT can bind a port."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with suppress(OSError):
            other.bind(("127.0.0.1", port))
            return True
    return False


def test_public_port_refuses_connections_until_listen(open_ports: Open) -> None:
    [[sock]], _ = open_ports(0)
    assert not accepts(sock)
    sockets.listen([sock])
    assert accepts(sock)


def test_admin_port_listens_at_once(open_ports: Open) -> None:
    _, [admin] = open_ports(0)
    assert accepts(admin)


def test_sockets_are_non_blocking_and_not_inheritable(open_ports: Open) -> None:
    [[sock]], [admin] = open_ports(0)
    assert not sock.getblocking()
    assert not admin.getblocking()
    assert not sock.get_inheritable()
    assert not admin.get_inheritable()


def test_given_ports_are_bound(open_ports: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.socket() as second:
        second.bind(("127.0.0.1", 0))
        ports = [port_of(first), port_of(second)]
    public, _ = open_ports(*ports)
    assert [port_of(sock) for [sock] in public] == ports


def test_repeated_port_0_is_one_free_port(open_ports: Open) -> None:
    public, [admin] = open_ports(0, 0, 0)
    assert len({sock.fileno() for [sock] in public}) == 3
    assert len({port_of(sock) for [sock] in public}) == 1
    assert port_of(admin) != port_of(public[0][0])


def test_connections_are_spread_over_the_sockets_of_a_shared_port(open_ports: Open) -> None:
    public, _ = open_ports(0, 0)
    [first], [second] = public
    sockets.listen([first])
    sockets.listen([second])
    assert all(accepts(first) for _ in range(64))
    counts = queued(first), queued(second)
    assert sum(counts) == 64
    assert all(counts)


def test_port_of_a_single_socket_cannot_be_shared(open_ports: Open) -> None:
    [[sock]], _ = open_ports(0)
    sockets.listen([sock])
    assert not can_share(port_of(sock))
    [first, _], _ = open_ports(0, 0)
    sockets.listen(first)
    assert can_share(port_of(first[0]))


@pytest.mark.parametrize("count", [1, 2])
def test_port_shared_by_another_service_is_an_error(open_ports: Open, count: int) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = port_of(other)
        with pytest.raises(StartupError) as caught:
            open_ports(*[port] * count)
    assert str(caught.value) == f"cannot listen on 127.0.0.1 port {port}: Address already in use"


def test_error_when_another_process_listens_first(open_ports: Open) -> None:
    [[first]], _ = open_ports(0)
    [second], _ = open_ports(port_of(first))
    sockets.listen([first])
    with pytest.raises(StartupError) as caught:
        sockets.listen(second)
    assert str(caught.value) == f"cannot listen on {listening_url(second)}: Address already in use"


def test_address_of_another_machine_is_an_error(open_ports: Open) -> None:
    with pytest.raises(StartupError, match=r"^cannot listen on 192\.0\.2\.1 port 0: "):
        open_ports(0, address="192.0.2.1")


def has_ipv6() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6")
def test_ipv6_address_is_ipv6_only(open_ports: Open) -> None:
    [[sock]], [admin] = open_ports(0, address="::1", admin_address="::1")
    sockets.listen([sock])
    assert accepts(sock)
    assert accepts(admin)
    assert listening_url([sock]) == f"http://[::1]:{port_of(sock)}"
    [everywhere], _ = open_ports(0, address="::")
    sockets.listen(everywhere)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port_of(everywhere[0]))) != 0
    [[other]], _ = open_ports(port_of(everywhere[0]), address="0.0.0.0")
    sockets.listen([other])


class ListenerWithoutIPv6(Listener):
    """What a host without IPv6 has."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        if family != socket.AF_INET:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        super().__init__(family)


@pytest.mark.parametrize("setting", ["address", "admin_address"])
def test_host_without_ipv6_is_an_error(
    open_ports: Open, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setattr(sockets, "Listener", ListenerWithoutIPv6)
    open_ports(0)
    with pytest.raises(StartupError, match=r"^cannot listen on :: port 0: Address family not supp"):
        open_ports(0, **{setting: "::"})


def test_listening_url_is_that_of_the_first_socket(
    open_ports: Open, listening: list[socket.socket]
) -> None:
    [[sock]], _ = open_ports(0)
    assert listening_url([sock, *listening]) == f"http://127.0.0.1:{port_of(sock)}"
    with socket.socket(socket.AF_UNIX) as local:
        local.bind("socket")
        assert listening_url([local]) == "unix:socket"


def test_inherited_socket_is_used(
    open_ports: Open, pass_sockets: PassSockets, listening: list[socket.socket]
) -> None:
    pass_sockets(listening[0].fileno())
    [[sock]], [admin] = open_ports(0)
    assert sock.fileno() == FIRST_FD
    assert port_of(sock) == port_of(listening[0])
    assert not sock.getblocking()
    assert not sock.get_inheritable()
    assert port_of(admin) != port_of(sock)
    assert accepts(admin)


def test_queued_connections_of_an_inherited_socket_are_kept(
    open_ports: Open, pass_sockets: PassSockets, listening: list[socket.socket]
) -> None:
    assert accepts(listening[0])
    pass_sockets(listening[0].fileno())
    [[sock]], _ = open_ports(0)
    sockets.listen([sock])
    assert queued(sock) == 1


def test_variables_are_not_inherited_by_children(
    open_ports: Open, pass_sockets: PassSockets, listening: list[socket.socket]
) -> None:
    pass_sockets(listening[0].fileno())
    open_ports(0)
    assert not [name for name in os.environ if name.startswith("LISTEN_")]
    [[sock]], _ = open_ports(0)
    assert port_of(sock) != port_of(listening[0])


@pytest.mark.parametrize("pid", ["1", ""])
def test_sockets_for_another_process_are_left_alone(
    open_ports: Open, pass_sockets: PassSockets, listening: list[socket.socket], pid: str
) -> None:
    pass_sockets(listening[0].fileno(), pid=pid)
    [[sock]], _ = open_ports(0)
    assert sock.fileno() != FIRST_FD
    assert port_of(sock) != port_of(listening[0])
    assert not [name for name in os.environ if name.startswith("LISTEN_")]
    os.fstat(FIRST_FD)


def test_inherited_socket_on_the_admin_port_goes_to_the_admin_server(
    open_ports: Open, pass_sockets: PassSockets, listening: list[socket.socket]
) -> None:
    pass_sockets(*(sock.fileno() for sock in listening[:2]))
    [[sock]], [admin] = open_ports(0, admin_port=port_of(listening[0]))
    assert port_of(sock) == port_of(listening[1])
    assert port_of(admin) == port_of(listening[0])


def test_public_port_is_bound_if_only_the_admin_socket_is_inherited(
    open_ports: Open, pass_sockets: PassSockets, listening: list[socket.socket]
) -> None:
    pass_sockets(listening[0].fileno())
    [[sock]], [admin] = open_ports(0, admin_port=port_of(listening[0]))
    assert admin.fileno() == FIRST_FD
    assert not accepts(sock)


@pytest.mark.parametrize(
    ("passed", "slots", "assigned"),
    [
        (1, 1, [[0]]),
        (3, 1, [[0, 1, 2]]),
        (2, 2, [[0], [1]]),
        (3, 2, [[0, 2], [1]]),
        (1, 2, [[0], [0]]),
        (2, 4, [[0], [1], [0], [1]]),
    ],
)
def test_inherited_sockets_are_assigned_round_robin(
    open_ports: Open,
    pass_sockets: PassSockets,
    listening: list[socket.socket],
    passed: int,
    slots: int,
    assigned: list[list[int]],
) -> None:
    pass_sockets(*(sock.fileno() for sock in listening[:passed]))
    public, _ = open_ports(*[0] * slots)
    assert [[sock.fileno() - FIRST_FD for sock in group] for group in public] == assigned


def test_unix_socket_can_be_inherited(open_ports: Open, pass_sockets: PassSockets) -> None:
    with socket.socket(socket.AF_UNIX) as local:
        local.bind("socket")
        local.listen()
        pass_sockets(local.fileno())
    [[sock]], [admin] = open_ports(0)
    assert listening_url([sock]) == "unix:socket"
    assert accepts(sock)
    assert listening_url([admin]).startswith("http://127.0.0.1:")


def test_inherited_file_is_an_error(
    open_ports: Open, pass_sockets: PassSockets, tmp_path: Path
) -> None:
    with (tmp_path / "file").open("wb") as file:
        pass_sockets(file.fileno())
    with pytest.raises(StartupError, match=rf"^inherited descriptor {FIRST_FD} is not a socket: "):
        open_ports(0)


def test_missing_descriptor_is_an_error(open_ports: Open, pass_sockets: PassSockets) -> None:
    pass_sockets()
    os.environ["LISTEN_FDS"] = "1"
    with pytest.raises(StartupError, match=rf"^inherited descriptor {FIRST_FD} is not a socket: "):
        open_ports(0)


@pytest.mark.parametrize("count", ["", "0", "-1", "all"])
def test_invalid_number_of_descriptors_is_ignored(
    open_ports: Open, pass_sockets: PassSockets, count: str
) -> None:
    pass_sockets()
    os.environ["LISTEN_FDS"] = count
    [[sock]], _ = open_ports(0)
    assert sock.fileno() != FIRST_FD
