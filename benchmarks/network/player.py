"""Any number of devices over one connection: python -m benchmarks.network.player SETTINGS

They serve to measure the memory of the coordinator, which sees that many devices. They join, offer an update of their
own as soon as a round starts, answer pulls, and take no adapters home.
"""

from __future__ import annotations

import json
import sys
import threading
from functools import lru_cache
from typing import Any

from benchmarks.network.content import content, profile
from edge_sdk.transport import connect
from edge_sdk.wire import (
    Finished,
    Join,
    Leave,
    Message,
    Offer,
    Pull,
    RoundStart,
    Sender,
    SignedStep,
    Topics,
    decode,
    decode_step,
    encode,
    make_manifest,
)

_DEADLINE = 600.0


class Player:
    """`count` devices over one connection to the broker at `url`.

    Raises:
        TimeoutError: no coordinator is online.
    """

    def __init__(self, url: str, federation: str, count: int) -> None:
        self._topics = Topics(federation)
        self._numbers = {f"device-{number}": number for number in range(count)}
        self._left = set(self._numbers)
        self.done = threading.Event()
        self._sender = lru_cache(32)(self._make_sender)  # all updates at once would take more than this process should
        self._transport = connect(url, client_id="player", publish_deadline=120.0)
        self._transport.subscribe(f"impasto/1/{federation}/dev/+/down/control", self._arrived)
        online = threading.Event()
        self._transport.subscribe(self._topics.coordinator_state, lambda *_: online.set())
        if not online.wait(_DEADLINE):
            raise TimeoutError("nobody coordinates")
        for device, number in self._numbers.items():
            self._say(device, Join(profile=profile(number)))

    def close(self) -> None:
        self._transport.close()

    def _say(self, device: str, message: Message) -> None:
        self._transport.publish(self._topics.control(device, "up"), encode(message))

    def _make_sender(self, device: str) -> Sender:
        data = content(self._numbers[device])
        return Sender(data, make_manifest(data, role="update", name="update"))

    def _arrived(self, topic: str, payload: bytes) -> None:
        device, message = self._topics.device_of(topic), decode(payload)
        if isinstance(message, SignedStep):
            message = decode_step(message.step)
        match message:
            case RoundStart(round=number, attempt=attempt):
                manifest = self._sender(device).manifest
                offer = Offer(
                    round=number,
                    attempt=attempt,
                    manifest=manifest,
                    pictures=10,
                    first_loss=1.0,
                    last_loss=0.5,
                    train_seconds=0.0,
                )
                self._say(device, offer)
            case Pull():
                for chunk in self._sender(device).on_pull(message):
                    self._transport.publish(self._topics.chunks(device, "up"), chunk)
            case Finished():
                self._say(device, Leave(reason="finished"))
                self._left.discard(device)
                if not self._left:
                    self.done.set()


def main() -> None:
    given: dict[str, Any] = json.loads(sys.argv[1])
    player = Player(given["url"], given["federation"], given["count"])
    finished = player.done.wait(_DEADLINE)
    player.close()
    print(json.dumps({"event": "ended" if finished else "gave up"}), flush=True)


if __name__ == "__main__":
    main()
