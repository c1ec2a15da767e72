"""A peer that speaks just enough MQTT 5 to misbehave: it answers what its script says and records what it is sent."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

CONNACK = b"\x20\x03\x00\x00\x00"
PUBLISH = 3
SUBSCRIBE = 8


class ScriptedBroker:
    """Answers CONNECT with `answer` and SUBSCRIBE with the reason code `subscribed` (None: never), and nothing else.

    `connections` lists the packet types received.
    """

    def __init__(self, answer: bytes | None = CONNACK, subscribed: int | None = None) -> None:
        self._answer = answer
        self._subscribed = subscribed
        self.connections: list[list[int]] = []
        self._open: list[socket.socket] = []
        self._changed = threading.Condition()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def wait_for_publishes(self, connection: int, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.publishes(connection) >= count, 60), self.connections

    def wait_for_connections(self, count: int) -> None:
        """Until so many clients have connected and said so."""
        with self._changed:
            assert self._changed.wait_for(lambda: len([c for c in self.connections if c]) >= count, 60)

    def publishes(self, connection: int) -> int:
        return self.connections[connection].count(PUBLISH) if connection < len(self.connections) else 0

    def say(self, packet: bytes) -> None:
        """To everybody who is connected."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.sendall(packet)

    def cut(self) -> None:
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> ScriptedBroker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with self._changed:
                self._open.append(connection)
                packets: list[int] = []
                self.connections.append(packets)
            threading.Thread(target=self._serve, args=(connection, packets), daemon=True).start()

    def _serve(self, connection: socket.socket, packets: list[int]) -> None:
        with contextlib.suppress(OSError, EOFError), connection, connection.makefile("rb") as stream:
            while True:
                kind = _read(stream, 1)[0] >> 4
                length, shift = 0, 0
                while True:
                    byte = _read(stream, 1)[0]
                    length |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                body = _read(stream, length)
                with self._changed:
                    packets.append(kind)
                    self._changed.notify_all()
                if len(packets) == 1 and self._answer is not None:
                    connection.sendall(self._answer)
                if kind == SUBSCRIBE and self._subscribed is not None:
                    connection.sendall(bytes([0x90, 4, *body[:2], 0, self._subscribed]))


def _read(stream: object, count: int) -> bytes:
    data: bytes = stream.read(count)  # type: ignore[attr-defined]
    if len(data) < count:
        raise EOFError
    return data
