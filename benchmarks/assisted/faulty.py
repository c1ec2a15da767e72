"""Helpers that fail: one that the coordinator vouches for and that answers as it is told, and real ones that are ended.

No kind draws plausible pictures of something else: that, no device can tell (docs/assist.md).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import TypeAlias

import numpy as np

from benchmarks.assisted.world import DEVICE, NAME, Federation, Helper
from coordinator.identity import Keys
from edge_sdk.inference import DrawingState, Generator, Order, SolverState
from edge_sdk.transport import Settings, Will, create
from edge_sdk.wire import Pull, assist, make_manifest, new_key

_NAME = "faulty"
_SECONDS = 30.0
Strike: TypeAlias = Callable[[threading.Event], None]
Fault: TypeAlias = Callable[[Federation, Generator, int], AbstractContextManager[Strike]]
"""A context of a helper that fails: called with federation, generator and the helper's core, it yields a function that
is to be called while the device draws, with an event that is set when it has."""


class Faulty:
    """A helper that the coordinator vouches for, and that fails at every request; a context manager.

    Args:
        federation: its federation.
        generator: of the bundle.
        fails: called with it, a request's name and the drawing.
    """

    def __init__(
        self, federation: Federation, generator: Generator, fails: Callable[[Faulty, str, assist.Drawing], None]
    ) -> None:
        self.generator = generator
        self._fails, self._topics = fails, federation.topics
        self._signer = assist.HelperSigner(new_key(), NAME, _NAME, Keys(federation.loaded.home, NAME).signer)
        self._data: dict[str, bytes] = {}
        self._topic = self._topics.helper_state(_NAME)
        will = Will(self._topic, self._state(online=False))
        self._transport = create(Settings(url=federation.broker, will=will))
        self._clearer = create(Settings(url=federation.broker))

    def __enter__(self) -> Faulty:
        for transport in (self._transport, self._clearer):
            transport.connect(_SECONDS)
        self._transport.subscribe(self._topics.all_assist_up(_NAME), self._arrived)
        self._transport.publish(self._topic, self._state(online=True), retain=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._transport.close()
        self._clearer.publish(self._topic, b"", retain=True)
        self._clearer.close()

    def _state(self, *, online: bool) -> bytes:
        course = self.generator.course(Order(prompt=""))
        state = self._signer.state(
            online=online, epoch=1, base_id=course.base_id, variant=course.variant, schedule=course.schedule,
            forms=["open", "blank"], largest=2**24, seconds=0.001,
        )  # fmt: skip
        return assist.encode(state)

    def _arrived(self, topic: str, payload: bytes) -> None:
        match assist.decode(payload):
            case assist.Ask(drawing=drawing):
                self._fails(self, assist.request_id(drawing), assist.decode_drawing(drawing))
            case Pull(sha256=sha256) if sha256 in self._data:
                chunk = bytes.fromhex(sha256) + bytes(4) + self._data[sha256]
                self._transport.publish(self._topics.assist_chunks(_NAME, DEVICE, "down"), chunk)
            case _:
                pass

    def say(self, message: assist.AssistMessage) -> None:
        """Say something to the device."""
        self._transport.publish(self._topics.assist(_NAME, DEVICE, "down"), assist.encode(message))

    def offer(self, request: str, data: bytes, *, hand_out: bool = True) -> None:
        """Answer a request with these bytes, signed; hand_out: False to keep them when they are pulled."""
        manifest = make_manifest(data, role="state", name="drawing")
        if hand_out:
            self._data[manifest.sha256] = data
        self.say(self._signer.drawn(DEVICE, request, manifest, 0.001))

    def die(self) -> None:
        """Break the connection, as a killed process does."""
        self._transport.abort()


def _silent(faulty: Faulty, request: str, drawing: assist.Drawing) -> None:
    """Answer nothing."""


def _for_ever(faulty: Faulty, request: str, drawing: assist.Drawing) -> None:
    """Take the request, and never draw it."""
    faulty.say(assist.Queued(request=request, position=0, seconds=0.01))


def _full(faulty: Faulty, request: str, drawing: assist.Drawing) -> None:
    faulty.say(assist.Busy(request=request, seconds=60.0, reason="full"))


def _gone(faulty: Faulty, request: str, drawing: assist.Drawing) -> None:
    """Take the request, and lose the connection."""
    _for_ever(faulty, request, drawing)
    faulty.die()


def _broken(faulty: Faulty, request: str, drawing: assist.Drawing) -> None:
    """Answer with bytes that are no state."""
    faulty.offer(request, b"no state")


def _nan(faulty: Faulty, request: str, drawing: assist.Drawing) -> None:
    """Answer with a state of the drawing that holds no numbers."""
    order = Order(prompt="", steps=drawing.steps, scheduler=drawing.scheduler, size=(drawing.width, drawing.height))
    latents = np.full(faulty.generator.latent_shape(order), np.nan, np.float32)
    previous = latents if drawing.scheduler == "dpm++" else None
    state = DrawingState(faulty.generator.course(order), drawing.until, SolverState(latents, previous))
    faulty.offer(request, state.to_bytes())


def _half(faulty: Faulty, request: str, drawing: assist.Drawing) -> None:
    """Offer an answer, and hand out nothing of it."""
    faulty.offer(request, b"no state", hand_out=False)


@contextmanager
def _played(
    fails: Callable[[Faulty, str, assist.Drawing], None], federation: Federation, generator: Generator, core: int
) -> Iterator[Strike]:
    with Faulty(federation, generator, fails):
        yield lambda over: None


@contextmanager
def _ended(number: signal.Signals, federation: Federation, generator: Generator, core: int) -> Iterator[Strike]:
    with Helper(federation, "desk", core) as helper:

        def strike(over: threading.Event) -> None:
            with suppress(RuntimeError):  # it was not asked
                helper.wait_for("assist_queued", over)
                helper.say(number)

        yield strike


FAULTS: Mapping[str, Fault] = {
    "killed while it draws": partial(_ended, signal.SIGKILL),
    "frozen while it draws": partial(_ended, signal.SIGSTOP),
    "gone while it draws": partial(_played, _gone),
    "takes the request and never draws": partial(_played, _for_ever),
    "answers nothing": partial(_played, _silent),
    "has no room": partial(_played, _full),
    "answers what is no state": partial(_played, _broken),
    "answers NaN": partial(_played, _nan),
    "offers and hands out nothing": partial(_played, _half),
}
