"""A federation of one device that has learnt, of the tiny base model; helpers of it in threads; one that lies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from coordinator import config
from coordinator.assist import Helper, HelperSettings
from coordinator.identity import Keys
from coordinator.server import Service
from edge_sdk.adapter import Adapter, Factors
from edge_sdk.inference import Generator, Order
from edge_sdk.membership import Membership, RoundPlan, TrainedUpdate
from edge_sdk.transport import Settings, Transport, Will, create
from edge_sdk.wire import (
    Committed,
    DeviceProfile,
    Pull,
    Topics,
    TrainingStats,
    assist,
    decode_chunk,
    make_manifest,
    new_key,
)
from tests.models import tiny_bundle

NAME, DEVICE = "tastes", "pi-4"
PATIENCE = 120.0
_FILE = """
name = "{name}"
broker = "{broker}"
bundle = "{bundle}"
privacy = "plain"
allow_plain = true
min_devices = 1
rounds = 2
root_rounds = 1
deadline = 60.0
rank = 4

[clustering]
method = "single"
"""


def adapter(generator: Generator, seed: int, rank: int = 4) -> Adapter:
    """An adapter that changes the picture."""
    rng = np.random.default_rng(seed)
    layers = {
        name: Factors(
            (rng.standard_normal((rank, shape.in_features)) / shape.in_features**0.5).astype(np.float32),
            (0.3 * rng.standard_normal((shape.out_features, rank))).astype(np.float32),
        )
        for name, shape in generator.slots.items()
        if "attn" in name
    }
    return Adapter(layers, base_id=generator.base_id)


@dataclass(frozen=True)
class Federation:
    """A federation file whose rounds are over, and the home of its device, with root and cluster adapters."""

    file: Path
    home: Path
    broker: str

    @property
    def loaded(self) -> config.Federation:
        return config.load(self.file)

    @property
    def topics(self) -> Topics:
        return Topics(NAME)


def learn_together(folder: Path, broker: str) -> Federation:
    """Run a federation of one device to its end."""
    generator = Generator.load(tiny_bundle(), verify=False, threads=1)
    file = folder / "tastes.toml"
    file.write_text(_FILE.format(name=NAME, broker=broker, bundle=tiny_bundle()))
    service = Service(config.load(file))
    coordinating = threading.Thread(target=service.run, kwargs={"once": True}, daemon=True)
    coordinating.start()

    def train(plan: RoundPlan) -> TrainedUpdate:
        stats = TrainingStats(pictures=9, first_loss=1.0, last_loss=0.5, train_seconds=0.1)
        return TrainedUpdate(adapter(generator, plan.round), stats)

    profile = DeviceProfile(
        base_id=generator.base_id, prompt_code=np.ones(32, "<f4").tobytes(), pictures=9, max_rank=4
    )  # fmt: skip
    home = folder / "home"
    with Membership(broker, NAME, DEVICE, profile, home, train) as membership:
        membership.run()
    coordinating.join(PATIENCE)
    assert not coordinating.is_alive()
    return Federation(file, home, broker)


@dataclass
class Events:
    """Events of a helper, which can be waited for."""

    told: list[dict[str, Any]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, event: dict[str, Any]) -> None:
        with self.changed:
            self.told.append(event)
            self.changed.notify_all()

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.told if event["event"] == name]

    def wait_for(self, name: str, count: int = 1) -> dict[str, Any]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.named(name)) >= count, PATIENCE), self.told
            return self.named(name)[count - 1]


@contextmanager
def running(federation: Federation, settings: HelperSettings | None = None) -> Iterator[Events]:
    """A helper in a thread of this process; its first event has come."""
    events = Events()
    generator = Generator.load(tiny_bundle(), verify=False, threads=1)
    helper = Helper(federation.loaded, generator, settings, on_event=events)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            helper.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        events.wait_for("helper_started")
        yield events
    finally:
        helper.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert errors == []


class Peer:
    """A device's side of the wire, by hand: sends what it is told, and keeps what it hears."""

    def __init__(self, federation: Federation, helper: str, device: str = DEVICE) -> None:
        self._topics, self._helper, self._device = federation.topics, helper, device
        self.heard: list[assist.AssistMessage] = []
        self.states: list[assist.HelperState] = []
        self.chunks: list[bytes] = []
        self._changed = threading.Condition()
        self._transport = create(Settings(url=federation.broker))
        self._transport.connect(PATIENCE)
        self._transport.subscribe(self._topics.all_assist_down(device), self._arrived)
        self._transport.subscribe(self._topics.helper_state(helper), self._arrived)

    def _arrived(self, topic: str, payload: bytes) -> None:
        with self._changed:
            if topic.endswith("/state"):
                state = assist.decode(payload)
                assert isinstance(state, assist.HelperState)
                self.states.append(state)
            elif topic.endswith("/chunk"):
                self.chunks.append(bytes(decode_chunk(payload).data))
            else:
                self.heard.append(assist.decode(payload))
            self._changed.notify_all()

    def say(self, message: assist.AssistMessage | bytes) -> None:
        payload = message if isinstance(message, bytes) else assist.encode(message)
        self._transport.publish(self._topics.assist(self._helper, self._device, "up"), payload)

    def wait_for(self, fits: Callable[[assist.AssistMessage], bool], count: int = 1) -> assist.AssistMessage:
        with self._changed:
            assert self._changed.wait_for(lambda: sum(map(fits, self.heard)) >= count, PATIENCE), self.heard
            return [message for message in self.heard if fits(message)][count - 1]

    def asker(self, key: bytes, helper: str | None = None) -> assist.Asker:
        """One that signs with a device's key for the helper's present start, once the helper shows itself."""
        with self._changed:
            assert self._changed.wait_for(lambda: bool(self.states) and self.states[-1].online, PATIENCE), self.states
            return assist.Asker(key, NAME, self._device, helper or self._helper, self.states[-1].key)

    def wait_for_chunk(self) -> bytes:
        with self._changed:
            assert self._changed.wait_for(lambda: bool(self.chunks), PATIENCE), self.heard
            return self.chunks[0]

    def close(self) -> None:
        self._transport.close()


class Liar:
    """A helper that the coordinator vouches for, and that answers as a test tells it to.

    Args:
        answers: called with the liar, the request's name and the drawing; says what it likes.
        name: the helper's name.
        state: the fields of its state that differ from an honest helper's.
    """

    def __init__(
        self,
        federation: Federation,
        answers: Callable[[Liar, str, assist.Drawing], None],
        name: str = "liar",
        **state: Any,
    ) -> None:
        self._topics = federation.topics
        self.name = name
        self._answers = answers
        self.done = threading.Event()  # set once the device has taken its request back, or stored the answer
        self.was_asked = threading.Event()
        self.asked: list[bytes] = []
        loaded = federation.loaded
        self.signer = assist.HelperSigner(new_key(), NAME, self.name, Keys(loaded.home, NAME).signer)
        generator = Generator.load(tiny_bundle(), verify=False, threads=1)
        course = generator.course(Order(prompt=""))
        honest: dict[str, Any] = {
            "epoch": 1, "base_id": course.base_id, "variant": course.variant, "schedule": course.schedule,
            "forms": ["open", "blank"], "largest": 2**20, "seconds": 0.001,
        }  # fmt: skip
        self._state = {**honest, **state}
        self._data: dict[str, bytes] = {}
        topic = self._topics.helper_state(self.name)
        gone = assist.encode(self.signer.state(online=False, **self._state))
        self._transport: Transport = create(Settings(url=federation.broker, will=Will(topic, gone)))
        self._transport.connect(PATIENCE)
        self._transport.subscribe(self._topics.all_assist_up(self.name), self._arrived)
        self.show(online=True)

    def show(self, *, online: bool) -> None:
        state = self.signer.state(online=online, **self._state)
        self._transport.publish(self._topics.helper_state(self.name), assist.encode(state), retain=True)

    def _arrived(self, topic: str, payload: bytes) -> None:
        message = assist.decode(payload)
        match message:
            case assist.Ask():
                self.asked.append(message.drawing)
                self.was_asked.set()
                self._answers(self, assist.request_id(message.drawing), assist.decode_drawing(message.drawing))
            case assist.Cancel() | Committed():
                self.done.set()
            case Pull() if message.sha256 in self._data:
                digest = bytes.fromhex(message.sha256)
                payload = digest + bytes(4) + self._data[message.sha256]
                self._transport.publish(self._topics.assist_chunks(self.name, DEVICE, "down"), payload)

    def say(self, message: assist.AssistMessage) -> None:
        self._transport.publish(self._topics.assist(self.name, DEVICE, "down"), assist.encode(message))

    def offer(self, request: str, data: bytes) -> None:
        """Answer a request with these bytes, signed."""
        manifest = make_manifest(data, role="state", name="drawing")
        self._data[manifest.sha256] = data
        self.say(self.signer.drawn(DEVICE, request, manifest, 0.001))

    def die(self) -> None:
        """End as a killed process does."""
        self._transport.abort()
        self.done.set()

    def close(self) -> None:
        self._transport.publish(self._topics.helper_state(self.name), b"", retain=True)
        self._transport.close()


@contextmanager
def lying(federation: Federation, answers: Callable[[Liar, str, assist.Drawing], None], **state: Any) -> Iterator[Liar]:
    liar = Liar(federation, answers, **state)
    try:
        yield liar
    finally:
        liar.close()


@contextmanager
def bystander(federation: Federation) -> Iterator[Liar]:
    """A slower helper that answers nothing: the device asks it once it is done with the other ones."""
    with lying(federation, lambda liar, request, drawing: None, name="bystander", seconds=100.0) as liar:
        yield liar
