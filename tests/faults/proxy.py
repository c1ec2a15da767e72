"""A TCP proxy on a free loopback port that does to connections what bad networks do.

    with Proxy(broker.port, schedule(seed=7, count=3)) as proxy:
        connect(proxy.url, ...)       # the first connection meets the first fault, the fourth is the first good one
        proxy.inject(Fault("reset"))  # and now all that are open

A fault strikes when exactly `after` bytes have passed in its direction since it was set, so that a run repeats: what
happens to which connection follows from the schedule, and a schedule from its seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Any, Literal, get_args

Way = Literal["up", "down"]
Kind = Literal["latency", "bandwidth", "cut", "reset", "half-open", "blackhole", "duplicate"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_BLOCK = 16384
_DEADLINE = 10.0
_PATIENCE = 60.0
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: closing sends RST instead of FIN


@dataclass(frozen=True)
class Fault:
    """A fault of a connection.

    Attributes:
        kind: latency: every block takes `seconds` longer. bandwidth: only so many bytes a `second` pass.
            cut: closed on both sides, what came before is delivered. reset: both sides get a RST.
            half-open: nothing passes any more, either way, and nobody is told. blackhole: the same in one direction.
            duplicate: somebody else connects with the same first packet, which makes a broker drop the first one
            (the same client id), and is gone at once; over TLS nothing comes of it.
        way: the direction whose bytes are counted, and which a blackhole swallows; "up" leads to the broker.
        after: how many bytes pass before.
        seconds, rate: of latency, and in bytes a second of bandwidth.
    """

    kind: Kind
    way: Way = "up"
    after: int = 0
    seconds: float = 0.02
    rate: float = 500_000.0


def schedule(seed: int, count: int, kinds: Iterable[Kind] = KINDS, largest: int = 50_000) -> list[Fault]:
    """So many faults, each after up to `largest` bytes, drawn from the seed."""
    random, kinds = Random(seed), list(kinds)
    return [Fault(random.choice(kinds), random.choice(("up", "down")), random.randrange(largest)) for _ in range(count)]


class Proxy:
    """Forwards every connection to a loopback port; a context manager.

    Args:
        port: where to.
        faults: the first is met by the first connection, and so on; connections beyond them are good ones.
        seed: of which connections `inject` chooses.

    Attributes:
        struck: how many faults of each kind have struck.
        passed: bytes forwarded, by direction.
    """

    def __init__(self, port: int, faults: Iterable[Fault] = (), seed: int = 0) -> None:
        self.struck: Counter[Kind] = Counter()
        self.passed: Counter[Way] = Counter()
        self._target = port
        self._faults = iter(list(faults))
        self._random = Random(seed)
        self._lines: list[_Line] = []
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def inject(self, fault: Fault, most: int | None = None) -> int:
        """Set a fault on all open connections, or on so many of them at most; returns on how many."""
        count: int = self._call(self._inject(fault, most))
        return count

    def wait_until_struck(self, count: int = 1) -> None:
        """Until so many faults have struck; AssertionError if that takes too long."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.struck.total() >= count, _PATIENCE), self.struck

    def redirect(self, port: int) -> None:
        """New connections lead to another port."""
        self._target = port

    def cut(self) -> None:
        """Close all connections at once; new ones are accepted."""
        self.inject(Fault("cut"))

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._accept, sock=self._listener))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_DEADLINE)
        self._loop.close()

    # --- on the proxy's thread --------------------------------------------------------------------------------------

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_DEADLINE)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # nobody there: the client is not let wait
            writer.transport.abort()
            return
        line = _Line(self, (reader, writer), (far_reader, far_writer), self._target)
        self._lines.append(line)
        with contextlib.suppress(asyncio.CancelledError):  # by `_end`
            if (fault := next(self._faults, None)) is not None:
                await line.set(fault)
            await line.forward()
        self._lines.remove(line)

    async def _inject(self, fault: Fault, most: int | None) -> int:
        chosen = self._lines
        if most is not None and most < len(chosen):
            chosen = self._random.sample(chosen, most)
        chosen = list(chosen)
        for line in chosen:
            await line.set(fault)
        return len(chosen)

    def note(self, fault: Fault) -> None:
        with self._changed:
            self.struck[fault.kind] += 1
            self._changed.notify_all()

    async def _end(self) -> None:
        self._server.close()
        for line in list(self._lines):
            line.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class _Line:
    """One connection through the proxy and what is wrong with it."""

    def __init__(
        self,
        proxy: Proxy,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        target: int,
    ) -> None:
        self._proxy = proxy
        self._near, self._far = near, far
        self._target = target
        self._fault: Fault | None = None
        self._room = 0  # bytes that still pass before it strikes
        self._slow: Fault | None = None
        self._swallowed: set[Way] = set()
        self._closed = False
        self._greeting = b""

    async def set(self, fault: Fault) -> None:
        self._fault, self._room = fault, fault.after
        if not fault.after and (self._greeting or fault.kind != "duplicate"):
            await self._strike()

    async def forward(self) -> None:
        """Until both sides are closed."""
        await asyncio.gather(
            self._pump("up", self._near[0], self._far[1]), self._pump("down", self._far[0], self._near[1])
        )
        self.close()

    def close(self, *, reset: bool = False) -> None:
        self._closed = True
        for _, writer in (self._near, self._far):
            if reset:
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                writer.transport.abort()
            else:
                writer.close()

    async def _pump(self, way: Way, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_BLOCK):
                if way == "up" and not self._greeting:
                    self._greeting = data
                await self._take(way, data, sink)
        if way not in self._swallowed:  # the other side of a line that swallows is not told
            with contextlib.suppress(OSError):
                sink.close()

    async def _take(self, way: Way, data: bytes, sink: asyncio.StreamWriter) -> None:
        fault = self._fault
        if fault and fault.way == way and len(data) >= self._room:
            await self._write(way, data[: self._room], sink)
            data = data[self._room :]
            await self._strike()
        elif fault and fault.way == way:
            self._room -= len(data)
        await self._write(way, data, sink)

    async def _write(self, way: Way, data: bytes, sink: asyncio.StreamWriter) -> None:
        if not data or way in self._swallowed or self._closed:
            return
        if self._slow:
            by_latency = self._slow.kind == "latency"
            await asyncio.sleep(self._slow.seconds if by_latency else len(data) / self._slow.rate)
        self._proxy.passed[way] += len(data)
        sink.write(data)
        await sink.drain()

    async def _strike(self) -> None:
        fault, self._fault = self._fault, None
        assert fault is not None
        self._proxy.note(fault)
        match fault.kind:
            case "latency" | "bandwidth":
                self._slow = fault
            case "cut" | "reset":
                self.close(reset=fault.kind == "reset")
            case "half-open":
                self._swallowed |= {"up", "down"}
            case "blackhole":
                self._swallowed.add(fault.way)
            case "duplicate":
                await self._connect_again()

    async def _connect_again(self) -> None:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
            writer.write(self._greeting)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(reader.read(_BLOCK), 1.0)
            writer.transport.abort()
