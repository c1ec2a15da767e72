"""A coordinator that a test plays message by message, and devices in threads of their own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace as replace_settings
from pathlib import Path
from typing import Any, TypeVar

from edge_sdk.adapter import Adapter, to_bytes
from edge_sdk.membership import Membership, MembershipResult, RoundPlan, Train, TrainedUpdate
from edge_sdk.membership.home import Home
from edge_sdk.membership.journal import Progress
from edge_sdk.transport import Settings, create
from edge_sdk.wire import TrainingStats, exchange
from edge_sdk.wire.messages import (
    CoordinatorState,
    DeviceProfile,
    Join,
    Manifest,
    Message,
    Offer,
    Pull,
    RoundStart,
    Step,
    Succession,
    Welcome,
    decode,
    encode,
)
from edge_sdk.wire.signing import Signer
from edge_sdk.wire.topics import Topics
from edge_sdk.wire.transfer import make_manifest
from tests.coordinator.adapters import BASE_ID, random_adapter
from tests.integration.devices import profile

TOPICS = Topics("tastes")
PROFILE = profile("apples", 0)
M = TypeVar("M", bound=Message)


class Stage:
    """The test's side: says what a coordinator says, hears what the device says, serves and pulls transfers."""

    def __init__(self, broker: str | Settings) -> None:
        settings = broker if isinstance(broker, Settings) else Settings(url=broker)
        self.transport = create(replace_settings(settings, client_id="stage"))
        self.transport.connect(5.0)
        self.exchange = exchange.Exchange()
        self.heard: queue.Queue[Message] = queue.Queue()
        self.updates: queue.Queue[bytes] = queue.Queue()
        self.delivered: queue.Queue[Manifest] = queue.Queue()
        self.silent = False  # whether pulls go unanswered
        self.signer = Signer(bytes(32), "tastes")
        self.epoch = 1
        self.transport.subscribe(TOPICS.all_up, self._arrived)
        self.transport.subscribe(TOPICS.presence("me"), lambda _, payload: self.heard.put(decode(payload)))

    def online(self, epoch: int = 1, said: Sequence[Succession] = (), *, online: bool = True) -> None:
        self.epoch = epoch
        self.show(self.signer.state(online=online, epoch=epoch, base_id=BASE_ID, level="plain", successions=said))

    def show(self, state: CoordinatorState) -> None:
        self.transport.publish(TOPICS.coordinator_state, encode(state), retain=True)

    def say(self, message: Message) -> None:
        if isinstance(message, Step):
            message = self.signer.signed(message, "me", self.epoch)
        self.say_as_it_is(message)

    def say_as_it_is(self, message: Message) -> None:
        self.transport.publish(TOPICS.control("me", "down"), encode(message))

    def serve(self, adapter: Adapter, role: str, name: str) -> Manifest:
        data = to_bytes(adapter)
        manifest = make_manifest(data, role=role, name=name)  # type: ignore[arg-type]
        self.exchange.offer(data, manifest)
        return manifest

    def hear(self, kind: type[M]) -> M:
        """The next message of a kind; others are skipped."""
        while True:
            message = self.heard.get(timeout=20)
            if isinstance(message, kind):
                return message

    def take(self, offer: Offer) -> bytes:
        """Pull an update and commit it."""
        self._act(self.exchange.fetch(offer.manifest, time.monotonic(), time.monotonic() + 20))
        data = self.updates.get(timeout=20)
        self._act(self.exchange.commit(offer.manifest.sha256))
        return data

    def take_in_vain(self, offer: Offer) -> None:
        """Pull an update that cannot come."""
        self._act(self.exchange.fetch(offer.manifest, time.monotonic(), time.monotonic() + 20))

    def _arrived(self, topic: str, payload: bytes) -> None:
        now = time.monotonic()
        if topic.endswith("/chunk"):
            self._act(self.exchange.on_chunk(payload, now))
            return
        message = decode(payload)
        self.heard.put(message)
        if self.silent and isinstance(message, Pull):
            return
        self._act(self.exchange.on_message(message, now))

    def _act(self, effects: list[exchange.Effect]) -> None:
        for effect in effects:
            match effect:
                case exchange.Send(message):
                    self.say(message)
                case exchange.SendChunk(payload):
                    self.transport.publish(TOPICS.chunks("me", "down"), payload)
                case exchange.Received(_, data):
                    self.updates.put(data)
                case exchange.Delivered(manifest):
                    self.delivered.put(manifest)


class Me:
    """The device under test, in a thread."""

    def __init__(
        self,
        broker: str | Settings,
        home: Path,
        train: Train,
        profile: DeviceProfile = PROFILE,
        masked_only: bool = False,
        code: bytes = b"",
        epsilon: float = 0.0,
        **run: Any,
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self.outcome: queue.Queue[MembershipResult | BaseException] = queue.Queue()

        def work() -> None:
            try:
                with Membership(
                    broker,
                    "tastes",
                    "me",
                    profile,
                    home,
                    train,
                    self.events.append,
                    masked_only=masked_only,
                    code=code,
                    epsilon=epsilon,
                ) as mine:
                    result = mine.run(**run)
                self.outcome.put(result)  # whoever waits for it may open the home
            except BaseException as error:
                self.outcome.put(error)

        threading.Thread(target=work, daemon=True).start()

    def result(self) -> MembershipResult:
        outcome = self.outcome.get(timeout=30)
        assert isinstance(outcome, MembershipResult), outcome
        return outcome

    def error(self) -> BaseException:
        outcome = self.outcome.get(timeout=30)
        assert isinstance(outcome, BaseException), outcome
        return outcome

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]

    def told(self, name: str) -> dict[str, Any]:
        """The last event of that name, as soon as there is one."""
        until = time.monotonic() + 60.0
        while time.monotonic() < until:
            if found := self.named(name):
                return found[-1]
            time.sleep(0.01)
        raise AssertionError(f"no {name}: {self.events[-5:]}")


def start(number: int = 1, **changes: Any) -> RoundStart:
    values: dict[str, Any] = {
        "round": number,
        "attempt": number,
        "rounds": 3,
        "stage": "root",
        "cluster": None,
        "frozen": [],
        "start": None,
        "rank": 4,
        "seed": 7,
        "steps": 5,
        "batch_size": 2,
        "learning_rate": 1e-3,
        "deadline": 60.0,
        **changes,
    }
    return RoundStart(**values)


class Learner:
    """Returns a fixed adapter and notes what it was asked for."""

    def __init__(self, seed: int = 1) -> None:
        self.plans: list[RoundPlan] = []
        self.adapter = Adapter(random_adapter(seed).layers)

    def __call__(self, plan: RoundPlan) -> TrainedUpdate:
        self.plans.append(plan)
        stats = TrainingStats(pictures=12, first_loss=1.0, last_loss=0.5, train_seconds=3.0)
        return TrainedUpdate(self.adapter, stats)


def trust(home: Path, key: bytes) -> None:
    with closing(Home(home).journal()) as journal:
        journal.trust(key)


def join(stage: Stage) -> None:
    stage.online()
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))


def leave_over(home: Path, progress: Progress) -> None:
    """An update of round 1, from an earlier session."""
    manifest = make_manifest(b"left over", role="update", name="update-1")
    offer = Offer(round=1, attempt=1, manifest=manifest, pictures=3, first_loss=1.0, last_loss=0.5, train_seconds=1.0)
    with closing(Home(home).journal()) as journal:
        journal.keep_update("earlier", offer, b"left over")
        journal.note("earlier", progress)
