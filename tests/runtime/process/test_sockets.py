import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.process import sockets
from runtime.settings import Settings
from runtime.process.sockets import StartupError, listening_url

Opened = tuple[list[list[socket.socket]], list[socket.socket]]
Open = Callable[..., Opened]
HandOver = Callable[..., None]

FREE = {"port": 0, "admin_port": 0}
# Far from what a process has open by itself.
FIRST = 200


@pytest.fixture
def open_ports() -> Iterator[Open]:
    """Open sockets as the service does, and close them when the test is over."""
    opened: list[socket.socket] = []

    def open_ports(*ports: int, **settings: object) -> Opened:
        public, admin = sockets.open_sockets(Settings.model_validate({**FREE, **settings}), ports)
        opened.extend(one for some in (*public, admin) for one in some)
        return public, admin

    yield open_ports
    for one in opened:
        one.close()
    os.closerange(FIRST, FIRST + 3)  # what was handed over and not taken


@pytest.fixture
def hand_over(monkeypatch: pytest.MonkeyPatch) -> HandOver:
    """Hand descriptors over as systemd does, but not from 3, which the tests may need."""

    def hand_over(*descriptors: int, pid: int | str = os.getpid()) -> None:
        for fd, descriptor in enumerate(descriptors, FIRST):
            os.dup2(descriptor, fd)
        monkeypatch.setattr(sockets, "FIRST_INHERITED", FIRST)
        monkeypatch.setenv("LISTEN_PID", str(pid))
        monkeypatch.setenv("LISTEN_FDS", str(len(descriptors)))
        monkeypatch.setenv("LISTEN_FDNAMES", "http")

    return hand_over


@pytest.fixture
def listening() -> Iterator[list[socket.socket]]:
    """Three sockets that somebody else opened."""
    three = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    yield three
    for one in three:
        one.close()


def port_of(one: socket.socket) -> int:
    port: int = one.getsockname()[1]
    return port


def connects(one: socket.socket) -> bool:
    with socket.socket(one.family) as probe:
        return probe.connect_ex(one.getsockname()) == 0


def waiting(one: socket.socket) -> int:
    """Accept and count the connections that wait."""
    count = 0
    with suppress(BlockingIOError):
        while True:
            one.accept()[0].close()
            count += 1
    return count


def binds(port: int) -> bool:
    """Tell whether somebody who would share it can have a port."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with suppress(OSError):
            other.bind(("127.0.0.1", port))
            return True
    return False


def test_the_public_port_refuses_connections_until_it_listens(open_ports: Open) -> None:
    [[one]], _ = open_ports(0)
    assert not connects(one)
    sockets.listen([one])
    assert connects(one)


def test_the_admin_port_listens_at_once(open_ports: Open) -> None:
    _, [admin] = open_ports(0)
    assert connects(admin)


def test_nothing_waits_at_a_socket_and_nothing_inherits_it(open_ports: Open) -> None:
    [[one]], [admin] = open_ports(0)
    assert not one.getblocking()
    assert not admin.getblocking()
    assert not one.get_inheritable()
    assert not admin.get_inheritable()


def test_a_port_that_is_given_is_taken(open_ports: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.socket() as second:
        second.bind(("127.0.0.1", 0))
        ports = [port_of(first), port_of(second)]
    public, _ = open_ports(*ports)
    assert [port_of(one) for [one] in public] == ports


def test_a_free_port_that_is_asked_for_again_is_the_same(open_ports: Open) -> None:
    public, [admin] = open_ports(0, 0, 0)
    assert len({one.fileno() for [one] in public}) == 3
    assert len({port_of(one) for [one] in public}) == 1
    assert port_of(admin) != port_of(public[0][0])


def test_connections_to_a_shared_port_go_to_all_its_sockets(open_ports: Open) -> None:
    public, _ = open_ports(0, 0)
    [first], [second] = public
    sockets.listen([first])
    sockets.listen([second])
    assert all(connects(first) for _ in range(64))
    counts = waiting(first), waiting(second)
    assert sum(counts) == 64
    assert all(counts)


def test_a_port_of_one_socket_is_not_shared(open_ports: Open) -> None:
    [[one]], _ = open_ports(0)
    sockets.listen([one])
    assert not binds(port_of(one))
    [first, _], _ = open_ports(0, 0)
    sockets.listen(first)
    assert binds(port_of(first[0]))


@pytest.mark.parametrize("count", [1, 2])
def test_a_port_of_somebody_who_would_share_it_is_refused(open_ports: Open, count: int) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = port_of(other)
        with pytest.raises(StartupError) as caught:
            open_ports(*[port] * count)
    assert str(caught.value) == f"cannot listen on 127.0.0.1 port {port}: Address already in use"


def test_who_is_slower_to_listen_is_told(open_ports: Open) -> None:
    [[first]], _ = open_ports(0)
    [second], _ = open_ports(port_of(first))
    sockets.listen([first])
    with pytest.raises(StartupError) as caught:
        sockets.listen(second)
    assert str(caught.value) == f"cannot listen on {url(second)}: Address already in use"


def test_an_address_of_another_machine_is_refused(open_ports: Open) -> None:
    with pytest.raises(StartupError, match=r"^cannot listen on 192\.0\.2\.1 port 0: "):
        open_ports(0, address="192.0.2.1")


def has_ipv6() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")
def test_an_ipv6_address_is_ipv6_only(open_ports: Open) -> None:
    [[one]], [admin] = open_ports(0, address="::1", admin_address="::1")
    sockets.listen([one])
    assert connects(one)
    assert connects(admin)
    assert listening_url([one]) == f"http://[::1]:{port_of(one)}"
    [everywhere], _ = open_ports(0, address="::")
    sockets.listen(everywhere)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port_of(everywhere[0]))) != 0
    [[other]], _ = open_ports(port_of(everywhere[0]), address="0.0.0.0")  # noqa: S104
    sockets.listen([other])


def test_a_url_says_where_a_socket_listens(
    open_ports: Open, listening: list[socket.socket]
) -> None:
    [[one]], _ = open_ports(0)
    assert listening_url([one, *listening]) == f"http://127.0.0.1:{port_of(one)}"
    with socket.socket(socket.AF_UNIX) as local:
        local.bind("socket")
        assert listening_url([local]) == "unix:socket"


def test_sockets_that_are_handed_over_are_used(
    open_ports: Open, hand_over: HandOver, listening: list[socket.socket]
) -> None:
    hand_over(listening[0].fileno())
    [[one]], [admin] = open_ports(0)
    assert one.fileno() == FIRST
    assert port_of(one) == port_of(listening[0])
    assert not one.getblocking()
    assert not one.get_inheritable()
    assert port_of(admin) != port_of(one)
    assert connects(admin)


def test_what_waits_at_a_socket_that_is_handed_over_is_kept(
    open_ports: Open, hand_over: HandOver, listening: list[socket.socket]
) -> None:
    assert connects(listening[0])
    hand_over(listening[0].fileno())
    [[one]], _ = open_ports(0)
    sockets.listen([one])
    assert waiting(one) == 1


def test_children_are_not_told_of_what_was_handed_over(
    open_ports: Open, hand_over: HandOver, listening: list[socket.socket]
) -> None:
    hand_over(listening[0].fileno())
    open_ports(0)
    assert not [name for name in os.environ if name.startswith("LISTEN_")]
    [[one]], _ = open_ports(0)
    assert port_of(one) != port_of(listening[0])


@pytest.mark.parametrize("pid", ["1", ""])
def test_what_is_handed_to_another_process_is_left_alone(
    open_ports: Open, hand_over: HandOver, listening: list[socket.socket], pid: str
) -> None:
    hand_over(listening[0].fileno(), pid=pid)
    [[one]], _ = open_ports(0)
    assert one.fileno() != FIRST
    assert port_of(one) != port_of(listening[0])
    assert not [name for name in os.environ if name.startswith("LISTEN_")]
    os.fstat(FIRST)


def test_a_socket_on_the_admin_port_is_the_admins(
    open_ports: Open, hand_over: HandOver, listening: list[socket.socket]
) -> None:
    hand_over(*(one.fileno() for one in listening[:2]))
    [[one]], [admin] = open_ports(0, admin_port=port_of(listening[0]))
    assert port_of(one) == port_of(listening[1])
    assert port_of(admin) == port_of(listening[0])


def test_if_only_the_admins_is_handed_over_the_public_port_is_opened(
    open_ports: Open, hand_over: HandOver, listening: list[socket.socket]
) -> None:
    hand_over(listening[0].fileno())
    [[one]], [admin] = open_ports(0, admin_port=port_of(listening[0]))
    assert admin.fileno() == FIRST
    assert not connects(one)


@pytest.mark.parametrize(
    ("given", "places", "dealt"),
    [
        (1, 1, [[0]]),
        (3, 1, [[0, 1, 2]]),
        (2, 2, [[0], [1]]),
        (3, 2, [[0, 2], [1]]),
        (1, 2, [[0], [0]]),
        (2, 4, [[0], [1], [0], [1]]),
    ],
)
def test_sockets_that_are_handed_over_are_dealt_out(
    open_ports: Open,
    hand_over: HandOver,
    listening: list[socket.socket],
    given: int,
    places: int,
    dealt: list[list[int]],
) -> None:
    hand_over(*(one.fileno() for one in listening[:given]))
    public, _ = open_ports(*[0] * places)
    assert [[one.fileno() - FIRST for one in some] for some in public] == dealt


def test_a_unix_socket_may_be_handed_over(open_ports: Open, hand_over: HandOver) -> None:
    with socket.socket(socket.AF_UNIX) as local:
        local.bind("socket")
        local.listen()
        hand_over(local.fileno())
    [[one]], [admin] = open_ports(0)
    assert listening_url([one]) == "unix:socket"
    assert connects(one)
    assert listening_url([admin]).startswith("http://127.0.0.1:")


def test_a_descriptor_that_is_no_socket_is_named(
    open_ports: Open, hand_over: HandOver, tmp_path: Path
) -> None:
    with (tmp_path / "file").open("wb") as file:
        hand_over(file.fileno())
    with pytest.raises(StartupError, match=rf"^descriptor {FIRST}, handed over, is no socket: "):
        open_ports(0)


def test_a_descriptor_that_is_not_there_is_named(open_ports: Open, hand_over: HandOver) -> None:
    hand_over()
    os.environ["LISTEN_FDS"] = "1"
    with pytest.raises(StartupError, match=rf"^descriptor {FIRST}, handed over, is no socket: "):
        open_ports(0)


@pytest.mark.parametrize("count", ["", "0", "-1", "all"])
def test_without_a_number_of_descriptors_there_are_none(
    open_ports: Open, hand_over: HandOver, count: str
) -> None:
    hand_over()
    os.environ["LISTEN_FDS"] = count
    [[one]], _ = open_ports(0)
    assert one.fileno() != FIRST
