"""Idle devices over one connection: python -m benchmarks.network.idle_devices SETTINGS

Each is the device's machine, with a key of its own. A line on standard input lets them begin to be idle: from then on
each says what its machine wants, at the longest interval; or, for comparison, `join` every 10 s. Another line ends
that, and the counts go to standard output.
"""

from __future__ import annotations

import heapq
import json
import math
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from benchmarks.network.content import profile
from edge_sdk.membership.rounds import Rules, SayHello, State, Tick, next_wake, step
from edge_sdk.membership.rounds.machine.intervals import LONGEST
from edge_sdk.transport import connect
from edge_sdk.wire import DeviceProfile, Greeter, Join, Message, Presence, Topics, Welcome, decode, encode, new_key

_DEADLINE = 600.0
_REPEAT = 10.0  # seconds between two Joins of a device that knows no hello
_AT_ONCE = 100  # devices that join together
_SILENCE = 3.0  # seconds without an answer after which the coordinator has answered all
_EPOCH = 1_780_000_000


@dataclass
class Idle:
    """One device: its keys, its profile and its machine."""

    name: str
    greeter: Greeter
    profile: DeviceProfile
    rules: Rules
    state: State = field(default_factory=State)

    def idle_since(self, now: float, due: float) -> None:
        """Begin in the steady state, the next hello at `due`."""
        self.state = State(phase="waiting", until=now + 1e6, say_at=due, pause=LONGEST, online=True, epoch=1)


class Player:
    """`count` idle devices over one connection to the broker at `url`."""

    def __init__(self, url: str, federation: str, count: int, says: str, seed: int) -> None:
        self._topics, self._says = Topics(federation), says
        self._random = random.Random(seed)
        self._devices = {f"device-{number}": self._device(federation, number) for number in range(count)}
        self._awaited = set(self._devices)
        self._lock = threading.Lock()  # the machines hear on the transport's thread
        self._changed = threading.Condition(self._lock)
        self.counts = {"said": 0, "answered": 0, "up": 0, "down": 0}
        self._transport = connect(url, client_id="idle", publish_deadline=120.0)
        self._transport.subscribe(f"impasto/1/{federation}/dev/+/down/control", self._arrived)
        online = threading.Event()
        self._transport.subscribe(self._topics.coordinator_state, lambda *_: online.set())
        if not online.wait(_DEADLINE):
            raise TimeoutError("nobody coordinates")

    def _device(self, federation: str, number: int) -> Idle:
        name = f"device-{number}"
        greeter = Greeter(new_key(), federation, name)
        own = replace(profile(number), key=greeter.public)
        return Idle(name, greeter, own, Rules(federation=federation, spread=self._random.random()))

    def join(self) -> None:
        """Show presence and join, a few at a time; return when all are welcomed and the coordinator has fallen silent.

        Raises:
            TimeoutError: some were not welcomed.
        """
        until, names = time.monotonic() + _DEADLINE, sorted(self._devices)
        for first in range(0, len(names), _AT_ONCE):
            few = names[first : first + _AT_ONCE]
            while missing := self._awaited.intersection(few):
                if time.monotonic() > until:
                    raise TimeoutError(f"{len(self._awaited)} devices were not welcomed")
                for name in sorted(missing):
                    birth = encode(Presence(online=True, epoch=_EPOCH))
                    self._transport.publish(self._topics.presence(name), birth, retain=True)
                    self._say(name, Join(profile=self._devices[name].profile))
                self._wait_for(lambda few=few: not self._awaited.intersection(few), _REPEAT)
        while self._wait_for(lambda heard=self.counts["down"]: self.counts["down"] > heard, _SILENCE):
            pass

    def _wait_for(self, so: Callable[[], bool], seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(so, seconds)

    def be_idle(self, ended: threading.Event) -> None:
        """Say what is due until `ended`."""
        now = time.monotonic()
        longest = _REPEAT if self._says == "join" else 0.75 * LONGEST
        due: list[tuple[float, str]] = []
        for device in self._devices.values():
            first = now + self._random.uniform(0.0, longest)
            device.idle_since(now, first)
            due.append((first, device.name))
        heapq.heapify(due)
        with self._lock:
            self.counts = dict.fromkeys(self.counts, 0)
        while not ended.wait(max(0.0, min(1.0, due[0][0] - time.monotonic()))):
            while due[0][0] <= time.monotonic():
                heapq.heapreplace(due, (self._speak(due[0][1]), due[0][1]))

    def close(self) -> None:
        self._transport.close()

    def _speak(self, name: str) -> float:
        """Let a device say what is due; return when it is to speak next."""
        device, now = self._devices[name], time.monotonic()
        if self._says == "join":
            self._say(name, Join(profile=device.profile))
            return now + _REPEAT
        with self._lock:
            device.state, actions = step(device.rules, device.state, Tick(), now)
        for action in actions:
            if isinstance(action, SayHello):
                self._say(name, device.greeter.hello(device.profile, _EPOCH, action.number))
        wake = next_wake(device.state)
        return wake if wake < math.inf else now + LONGEST

    def _say(self, name: str, message: Message) -> None:
        payload = encode(message)
        self._transport.publish(self._topics.control(name, "up"), payload)
        with self._lock:
            self.counts["said"] += 1
            self.counts["up"] += len(payload)

    def _arrived(self, topic: str, payload: bytes) -> None:
        name, message = self._topics.device_of(topic), decode(payload)
        with self._lock:
            self.counts["down"] += len(payload)
            self._changed.notify_all()
            if not isinstance(message, Welcome):
                return
            self.counts["answered"] += 1
            self._awaited.discard(name)
            device = self._devices[name]
            if device.state.phase == "waiting":
                device.state, _ = step(device.rules, device.state, message, time.monotonic())


def main() -> None:
    given: dict[str, Any] = json.loads(sys.argv[1])
    player = Player(**given)
    player.join()
    print(json.dumps({"event": "joined"}), flush=True)
    sys.stdin.readline()
    ended = threading.Event()
    thread = threading.Thread(target=player.be_idle, args=(ended,), daemon=True)
    thread.start()
    print(json.dumps({"event": "idle"}), flush=True)
    sys.stdin.readline()
    ended.set()
    thread.join()
    print(json.dumps({"event": "ended", **player.counts}), flush=True)
    player.close()


if __name__ == "__main__":
    main()
