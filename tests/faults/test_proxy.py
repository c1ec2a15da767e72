"""The proxy does what it says, to the byte."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.faults.proxy import KINDS, Fault, Proxy, schedule

DEADLINE = 30.0


class Server:
    """Takes one connection after the other, says `greeting`, and keeps what each one sent until its end."""

    def __init__(self, greeting: bytes) -> None:
        self._greeting = greeting
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pool = ThreadPoolExecutor()
        self.port: int = self._listener.getsockname()[1]

    def take(self) -> Future[bytes]:
        return self._pool.submit(self._serve)

    def _serve(self) -> bytes:
        connection, _ = self._listener.accept()
        connection.settimeout(DEADLINE)
        received = b""
        with connection:
            try:
                connection.sendall(self._greeting)
                while data := connection.recv(65536):
                    received += data
            except ConnectionResetError:
                received += b"RST"
        return received

    def close(self) -> None:
        self._listener.close()
        self._pool.shutdown()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(b"hello")
    yield server
    server.close()


def talk(proxy: Proxy, data: bytes, *, answer: int = 5) -> tuple[bytes, bool]:
    """Send and read so many bytes: what came, and whether the connection was reset."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=DEADLINE) as connection:
        received = b""
        try:
            connection.sendall(data)
            while len(received) < answer and (more := connection.recv(65536)):
                received += more
        except (ConnectionResetError, BrokenPipeError):
            return received, True
        return received, False


def test_without_faults_everything_passes_and_is_counted(server: Server) -> None:
    taken = server.take()
    with Proxy(server.port) as proxy:
        assert talk(proxy, bytes(100_000)) == (b"hello", False)
        assert taken.result(DEADLINE) == bytes(100_000)
        assert proxy.passed == {"up": 100_000, "down": 5}
        assert not proxy.struck


@pytest.mark.parametrize("kind", ["latency", "bandwidth"])
def test_slow_lines_lose_nothing(server: Server, kind: str) -> None:
    taken = server.take()
    with Proxy(server.port, [Fault(kind, seconds=0.001, rate=1e7)]) as proxy:  # type: ignore[arg-type]
        assert talk(proxy, bytes(50_000)) == (b"hello", False)
        assert taken.result(DEADLINE) == bytes(50_000)
        assert proxy.struck == {kind: 1}


def test_a_cut_line_has_delivered_what_came_before_it(server: Server) -> None:
    taken = server.take()
    with Proxy(server.port, [Fault("cut", "up", after=12_345)]) as proxy:
        talk(proxy, bytes(50_000), answer=10)
        assert taken.result(DEADLINE).removesuffix(b"RST") == bytes(12_345)
        again = server.take()
        assert talk(proxy, bytes(50_000)) == (b"hello", False)  # the second connection is a good one
        assert again.result(DEADLINE) == bytes(50_000)
        assert proxy.struck == {"cut": 1}


def test_a_reset_reaches_both_sides(server: Server) -> None:
    taken = server.take()
    with Proxy(server.port, [Fault("reset", "up", after=3)]) as proxy:
        _, reset = talk(proxy, b"abcdef", answer=10)
        assert reset
        assert taken.result(DEADLINE).endswith(b"RST")


def test_a_half_open_line_accepts_everything_and_tells_nobody(server: Server) -> None:
    taken = server.take()
    with Proxy(server.port, [Fault("half-open", "up", after=4)]) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=DEADLINE) as connection:
            assert connection.recv(5) == b"hello"
            connection.sendall(b"1234" + bytes(100_000))
            proxy.wait_until_struck()
        assert not taken.done()
    assert taken.result(DEADLINE).removesuffix(b"RST") == b"1234"  # the proxy's own end, not the client's


def test_a_blackhole_swallows_one_direction(server: Server) -> None:
    taken = server.take()
    with Proxy(server.port, [Fault("blackhole", "up", after=2)]) as proxy:
        assert talk(proxy, b"abcdef") == (b"hello", False)
        proxy.wait_until_struck()
    assert taken.result(DEADLINE).removesuffix(b"RST") == b"ab"


def test_a_duplicate_says_the_same_first_words(server: Server) -> None:
    first, second = server.take(), server.take()
    with Proxy(server.port, [Fault("duplicate", "up", after=4)]) as proxy:
        assert talk(proxy, b"CONN") == (b"hello", False)
        proxy.wait_until_struck()
        assert {first.result(DEADLINE).removesuffix(b"RST"), second.result(DEADLINE).removesuffix(b"RST")} == {b"CONN"}


def test_faults_strike_open_connections_when_told_to(server: Server) -> None:
    taken = server.take()
    with Proxy(server.port) as proxy, socket.create_connection(("127.0.0.1", proxy.port), DEADLINE) as connection:
        assert connection.recv(5) == b"hello"
        assert proxy.inject(Fault("cut"), most=3) == 1
        assert connection.recv(1) == b""
        assert taken.result(DEADLINE) == b""


def test_nobody_behind_it_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with Proxy(port) as proxy:
        assert talk(proxy, b"")[0] == b""


def test_a_schedule_follows_from_its_seed() -> None:
    drawn = schedule(7, 200)
    assert drawn == schedule(7, 200) != schedule(8, 200)
    assert {fault.kind for fault in drawn} == set(KINDS)
    assert {fault.way for fault in drawn} == {"up", "down"}
    assert {fault.kind for fault in schedule(7, 20, ["cut"])} == {"cut"}
