"""One sum by our two machines, which hand each other their messages as bytes in this process."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from msgspec.structs import replace

from benchmarks.summing.settings import DEVIATIONS, Sum, worst_error
from coordinator import secure_aggregation as server
from edge_sdk.secure_aggregation import (
    RANDOM_BYTES,
    Layout,
    Mean,
    Scaled,
    Terms,
    decode,
    decoded,
    device,
    encode,
    encoded,
    from_bytes,
    to_bytes,
)


class Run:
    """A sum in progress: seconds of all devices and of the coordinator, bytes both ways, the sum of masked vectors."""

    def __init__(self, what: Sum) -> None:
        self.what = what
        tensors = [
            Scaled(name=str(number), size=size, scale=DEVIATIONS * spread)
            for number, (size, spread) in enumerate(what.tensors)
        ]
        self.layout = Layout(slots=1, tensors=tuple(tensors))
        step = hashlib.sha256(b"the signed step").digest()
        self.terms = Terms(federation="sum", epoch=1, round=1, attempt=1, step=step, words=self.layout.words)
        self.numbers = {f"device-{number:04}": number for number in range(what.devices)}
        self.rules = {name: device.Rules(device=name, identity=os.urandom(32)) for name in self.numbers}
        self.states = dict.fromkeys(self.numbers, device.State())
        self.state = server.begin(self.terms, self.numbers)
        self.total = np.zeros(self.layout.words, np.uint32)
        self.device_s = self.server_s = 0.0
        self.up = self.down = 0

    def run(self) -> dict[str, float | None]:
        """The costs, and the largest error of a tensor's mean relative to that in double precision."""
        mean = self.summed()
        weight = sum(self.what.weights[number] for number in self.what.staying)
        return {
            "device_s": self.device_s / self.what.devices,
            "server_s": self.server_s,
            "up": self.up / self.what.devices,
            "down": self.down / self.what.devices,
            "error": worst_error([*mean.tensors.values()], [tensor / weight for tensor in self.what.total()]),
        }

    def summed(self) -> Mean:
        """Go through all exchanges, and return the mean."""
        for name in self.numbers:
            self._device(name, device.Begin(self.terms, os.urandom(RANDOM_BYTES)))
        for number in self.what.staying:
            self._upload(f"device-{number:04}")
        if self.what.lost:
            self._server(server.TimeUp())
        assert self.state.phase == "done", f"{self.state.phase}: {self.state.reason}"
        with self._timed("server_s"):
            return decoded(self.layout, self.total, len(self.what.staying)).slots[0]

    def _upload(self, name: str) -> None:
        number = self.numbers[name]
        values, weight = self.what.values(number), self.what.weights[number] / max(self.what.weights)
        with self._timed("device_s"):
            named = {str(number): tensor for number, tensor in enumerate(values)}
            data = to_bytes(encoded(self.layout, 0, weight, named))
        self._device(name, device.Vector(data))

    def _device(self, name: str, event: device.Event | bytes) -> None:
        with self._timed("device_s"):
            heard = decode(event) if isinstance(event, bytes) else event
            self.states[name], actions = device.step(self.rules[name], self.states[name], heard)  # type: ignore[arg-type]
            said = [encode(action.message) for action in actions if isinstance(action, device.Say)]
        for action in actions:
            assert not isinstance(action, device.Refuse), action
            if isinstance(action, device.HandIn):
                self._hand_in(name)
        for data in said:
            self.up += len(data)
            self._server(data, name)

    def _hand_in(self, name: str) -> None:
        data = self.states[name].masked
        self.states[name] = replace(self.states[name], masked=b"")  # a thousand of them need no memory at a time
        self.up += len(data)
        with self._timed("server_s"):
            sha256 = hashlib.sha256(data).hexdigest()
            self.total += from_bytes(data)
        self._server(server.Uploaded(name, sha256, len(data)))

    def _server(self, event: server.Event | bytes, name: str = "") -> None:
        with self._timed("server_s"):
            heard = server.Heard(name, decode(event)) if isinstance(event, bytes) else event  # type: ignore[arg-type]
            self.state, actions = server.step(self.state, heard)
        for action in actions:
            match action:
                case server.Send():
                    with self._timed("server_s"):
                        data = encode(action.message)
                    for receiver in action.devices:
                        self.down += len(data)
                        self._device(receiver, data)
                case server.Discard():
                    pass  # kept nowhere
                case server.Unmask():
                    with self._timed("server_s"):
                        server.unmask(self.total, server.leftover(action.task))
                    self._server(server.Summed())
                case _:
                    raise AssertionError(action)

    @contextmanager
    def _timed(self, whose: str) -> Iterator[None]:
        started = time.process_time()
        yield
        setattr(self, whose, getattr(self, whose) + time.process_time() - started)
