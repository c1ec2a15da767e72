"""A device draws with helpers, over the embedded broker and with a real model: good, slow, dead and lying ones."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from coordinator.assist import HelperSettings
from edge_sdk import adapter as adapters
from edge_sdk.device import Device
from edge_sdk.device.assist import Assist, Assistance
from edge_sdk.errors import (
    AssistDeclined,
    ConfigurationError,
    DeadlineExceeded,
    HelperBusy,
    HelperRefused,
    HelperUntrusted,
    ImpastoError,
    MessageOutdated,
    NoHelper,
    SignatureInvalid,
    StateInvalid,
    StateMismatch,
)
from edge_sdk.inference import DrawingState, Order, SolverState
from edge_sdk.transport import Settings, create
from edge_sdk.transport.embedded import EmbeddedBroker
from edge_sdk.wire import Signer, assist
from tests.assist.federation import NAME, PATIENCE, Federation, Liar, adapter, bystander, learn_together, lying, running
from tests.models import tiny_bundle
from tests.test_asyncapi import channel_of, validate

ARGUMENTS: dict[str, Any] = {"seed": 5, "steps": 6, "guidance": 3.0, "scheduler": "dpm++"}
PROMPT = "a red fox"
SHARED = {"root": 1.0, "cluster": 0.7}


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with EmbeddedBroker() as broker:
        yield learn_together(tmp_path_factory.mktemp("federation"), broker.url)


@pytest.fixture(scope="module")
def device(federation: Federation) -> Device:
    device = Device(bundle=tiny_bundle(), home=federation.home, threads=1)
    adapters.save(adapter(device.generator, 9), federation.home / "leaf.safetensors")
    return device


class Drawn:
    """A picture that was drawn with a wish, and what came from where."""

    def __init__(self, device: Device, wish: Assist, waits: Callable[[], Any], **arguments: Any) -> None:
        came: list[Assistance] = []
        self.steps: list[int] = []

        def on_step(step: int, of: int, latents: Any) -> None:
            self.steps.append(step)
            if len(self.steps) == 1:
                waits()

        arguments = {**ARGUMENTS, "adapters": SHARED, **arguments}
        self.picture = device.generate(PROMPT, **arguments, assist=wish, on_assist=came.append, on_step=on_step)
        (self.came,) = came
        self.alone = device.generate(PROMPT, **arguments)

    @property
    def difference(self) -> float:
        """Largest difference from what the device draws alone, of 1."""
        return _difference(self.picture, self.alone)


def _difference(x: Image.Image, y: Image.Image) -> float:
    return float(np.abs(np.asarray(x, np.float32) - np.asarray(y, np.float32)).max()) / 255


def wish(federation: Federation, **changes: Any) -> Assist:
    return Assist(**{"broker": federation.broker, "form": "open", "steps": 3, **changes})


# --- helped ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["dpm++", "ddim", "euler", "lcm"])
@pytest.mark.parametrize("hybrid", ["guide", "merge", "switch"])
def test_two_halves_are_the_picture_that_the_device_draws_alone(
    federation: Federation, device: Device, scheduler: str, hybrid: str
) -> None:
    with running(federation) as helper:
        drawn = Drawn(
            device, wish(federation), lambda: helper.wait_for("assist_delivered"), scheduler=scheduler, hybrid=hybrid
        )
    assert drawn.came == Assistance(steps=6, by_helper=3, dropped=1, helper="helper")
    assert str(drawn.came) == "steps 1 to 3 by helper, 4 to 6 here"
    assert drawn.steps == [1, 4, 5, 6]
    assert drawn.difference <= 1e-4
    assert [event["code"] for event in helper.named("refused")] == []


def test_a_leaf_draws_in_the_devices_half_and_is_never_named(federation: Federation, device: Device) -> None:
    heard: list[tuple[str, bytes]] = []
    listener = create(Settings(url=federation.broker))
    listener.connect(PATIENCE)
    listener.subscribe(f"impasto/1/{NAME}/assist/#", lambda topic, payload: heard.append((topic, payload)))
    with running(federation) as helper:
        drawn = Drawn(
            device, wish(federation), lambda: helper.wait_for("assist_delivered"), adapters={**SHARED, "leaf": 1.0}
        )
    listener.flush(PATIENCE)
    listener.close()
    order = {"prompt": PROMPT, "hybrid": "guide", **ARGUMENTS}
    shared = [(device.adapter(name), weight) for name, weight in SHARED.items()]
    first = list(device.generator.states(Order(**order, adapters=shared)))[2]
    terms = [*shared, (device.adapter("leaf"), 1.0)]
    last = list(device.generator.states(Order(**order, adapters=terms, state=first)))[-1]
    assert _difference(drawn.picture, device.generator.decode(last.latents)[0]) <= 1e-4
    assert drawn.difference > 1e-2  # alone, the leaf draws in all steps
    seen = _on_the_wire(heard)
    (asked,) = {content["drawing"] for content in seen if content["type"] == "ask"}
    assert len(assist.decode_drawing(asked).adapters) == 2
    assert {"ask", "queued", "drawn", "pull", "committed", "helperstate"} <= {content["type"] for content in seen}


def _on_the_wire(heard: list[tuple[str, bytes]]) -> list[dict[str, Any]]:
    """All messages, each checked against docs/asyncapi.yaml on its channel."""
    seen = []
    for topic, payload in heard:
        channel = channel_of(topic)
        if not payload:
            continue
        if "chunk" in channel["messages"]:
            validate("chunk", payload)
            continue
        content = msgspec.msgpack.decode(payload)
        assert content["type"] in channel["messages"], topic
        validate(content["type"], content)
        seen.append(content)
    return seen


def test_a_blank_request_has_no_prompt(federation: Federation, device: Device) -> None:
    with running(federation) as helper:
        drawn = Drawn(device, wish(federation, form="blank"), lambda: helper.wait_for("assist_delivered"))
    order = {"hybrid": "guide", **ARGUMENTS}
    terms = [(device.adapter(name), weight) for name, weight in SHARED.items()]
    first = list(device.generator.states(Order(prompt="", **order, adapters=terms)))[2]
    last = list(device.generator.states(Order(prompt=PROMPT, **order, adapters=terms, state=first)))[-1]
    assert _difference(drawn.picture, device.generator.decode(last.latents)[0]) <= 1e-4


def test_the_second_helper_is_asked_if_the_first_has_no_room(federation: Federation, device: Device) -> None:
    def refuse(liar: Liar, request: str, drawing: assist.Drawing) -> None:
        liar.say(assist.Busy(request=request, seconds=60.0, reason="full"))

    with lying(federation, refuse, seconds=0.0), running(federation) as helper:
        drawn = Drawn(device, wish(federation), lambda: helper.wait_for("assist_delivered"))
    assert drawn.came.helper == "helper"
    assert drawn.difference <= 1e-4


@pytest.mark.parametrize(
    ("adapters", "form", "most"),
    [({}, "open", 119), (SHARED, "open", 119), ({**SHARED, "leaf": 1.0}, "open", 39), ({}, "blank", 39)],
)
def test_auto_asks_for_as_many_steps_as_the_drawing_allows(
    federation: Federation, device: Device, adapters: dict[str, float], form: str, most: int
) -> None:
    """The helper's steps take no time, on a fast line; those after the noise are the device's, if it knows more."""
    assert [device.generator.noisy_steps(120, signal) for signal in (0.01, 1.0)] == [39, 119]
    with lying(federation, lambda liar, request, drawing: None, seconds=0.0) as liar:
        line = Settings(url=federation.broker, bandwidth=10**9)
        auto = wish(federation, broker=line, steps="auto", form=form)
        drawn = Drawn(device, auto, lambda: liar.was_asked.wait(PATIENCE), steps=120, adapters=adapters)
        asked = assist.decode_drawing(liar.asked[0])
    assert (asked.until, asked.form) == (most, form)
    assert isinstance(drawn.came.reason, DeadlineExceeded)
    assert drawn.difference == 0


# --- not helped: the device has its picture, and says why -----------------------------------------------------------


def test_nobody_is_there(federation: Federation, device: Device) -> None:
    drawn = Drawn(device, wish(federation), lambda: None)
    assert isinstance(drawn.came.reason, NoHelper)
    assert drawn.difference == 0
    assert drawn.steps == [1, 2, 3, 4, 5, 6]


def test_no_broker_is_there(device: Device) -> None:
    drawn = Drawn(device, Assist("mqtt://127.0.0.1:1", form="open", steps=3), lambda: None)
    assert isinstance(drawn.came.reason, ImpastoError)
    assert drawn.difference == 0


def test_a_broker_that_accepts_and_says_nothing(device: Device) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"mqtt://127.0.0.1:{silent.getsockname()[1]}"
        drawn = Drawn(device, Assist(url, form="open", steps=3), lambda: silent.accept()[0].close())
    assert isinstance(drawn.came.reason, ImpastoError)
    assert drawn.difference == 0


def honest(device: Device, drawing: assist.Drawing) -> DrawingState:
    """The state that an honest helper would have drawn."""
    terms = [(device.adapter(name), weight) for name, weight in SHARED.items()]
    return list(device.generator.states(Order(prompt=PROMPT, hybrid="guide", **ARGUMENTS, adapters=terms)))[2]


def with_nan(state: DrawingState, **course: Any) -> bytes:
    latents = state.latents.copy()
    latents[0, 0, 0, 0] = np.nan
    return DrawingState(state.course, state.step, SolverState(latents, state.solver.previous)).to_bytes()


def of_another_base(state: DrawingState) -> bytes:
    course = msgspec.structs.replace(state.course, base_id="f" * 64)
    return DrawingState(course, state.step, state.solver).to_bytes()


def of_another_step(state: DrawingState) -> bytes:
    return DrawingState(state.course, 4, state.solver).to_bytes()


@pytest.mark.parametrize(
    ("lie", "error"),
    [
        (with_nan, StateInvalid),
        (of_another_base, StateMismatch),
        (of_another_step, StateInvalid),
        (lambda state: b"no state", StateInvalid),
        (lambda state: bytes(100_000), StateInvalid),
    ],
    ids=["nan", "another base", "another step", "no state", "too large"],
)
def test_a_helper_that_lies(
    federation: Federation, device: Device, lie: Callable[[DrawingState], bytes], error: type[ImpastoError]
) -> None:
    answers = lambda liar, request, drawing: liar.offer(request, lie(honest(device, drawing)))  # noqa: E731
    with lying(federation, answers) as liar:
        drawn = Drawn(device, wish(federation), lambda: liar.done.wait(PATIENCE))
    assert isinstance(drawn.came.reason, error)
    assert drawn.came.by_helper == 0
    assert drawn.difference == 0


def test_an_old_answer_that_is_replayed(federation: Federation, device: Device) -> None:
    kept: list[tuple[str, bytes]] = []

    def replay(liar: Liar, request: str, drawing: assist.Drawing) -> None:
        kept.append((request, honest(device, drawing).to_bytes()))
        liar.offer(*kept[0])
        if len(kept) > 1:
            liar.offer(request, b"no state")  # the device gives up only now

    with lying(federation, replay) as liar:
        first = Drawn(device, wish(federation), lambda: liar.done.wait(PATIENCE))
        liar.done.clear()
        second = Drawn(device, wish(federation), lambda: liar.done.wait(PATIENCE))
    assert first.came.by_helper == 3
    assert first.difference <= 1e-4
    assert second.came.by_helper == 0
    assert isinstance(second.came.reason, MessageOutdated)
    assert second.difference == 0


def test_an_answer_that_somebody_else_has_signed(federation: Federation, device: Device) -> None:
    def forge(liar: Liar, request: str, drawing: assist.Drawing) -> None:
        own = liar.signer
        liar.signer = assist.HelperSigner(bytes(range(32)), NAME, liar.name, Signer(bytes(32), NAME))
        liar.offer(request, honest(device, drawing).to_bytes())
        liar.signer = own
        liar.offer(request, b"no state")

    with lying(federation, forge) as liar:
        drawn = Drawn(device, wish(federation), lambda: liar.done.wait(PATIENCE))
    assert isinstance(drawn.came.reason, SignatureInvalid)
    assert drawn.difference == 0


def test_a_helper_that_is_killed_while_it_draws(federation: Federation, device: Device) -> None:
    with ExitStack() as stack:
        others: list[Liar] = []

        def die(liar: Liar, request: str, drawing: assist.Drawing) -> None:
            others.append(stack.enter_context(bystander(federation)))
            liar.say(assist.Queued(request=request, position=0, seconds=1.0))
            liar.die()

        liar = Liar(federation, die)
        drawn = Drawn(device, wish(federation), lambda: liar.done.wait(PATIENCE) and others[0].was_asked.wait(PATIENCE))
        clear(federation, liar)
    assert isinstance(drawn.came.reason, NoHelper)
    assert "has gone while it drew" in str(drawn.came.reason)
    assert drawn.difference == 0


def clear(federation: Federation, liar: Liar) -> None:
    """Clear the retained will of a helper that has died."""
    transport = create(Settings(url=federation.broker))
    transport.connect(PATIENCE)
    transport.publish(federation.topics.helper_state(liar.name), b"", retain=True)
    transport.close()


def test_a_helper_that_is_too_slow(federation: Federation, device: Device) -> None:
    with lying(federation, lambda liar, request, drawing: None) as liar:
        drawn = Drawn(device, wish(federation), lambda: liar.was_asked.wait(PATIENCE))
        assert liar.done.wait(PATIENCE), "the request was not taken back"
    assert isinstance(drawn.came.reason, DeadlineExceeded)
    assert drawn.steps == [1, 2, 3, 4, 5, 6]
    assert drawn.difference == 0


def test_a_helper_without_room(federation: Federation, device: Device) -> None:
    with ExitStack() as stack:
        others: list[Liar] = []
        has_refused = threading.Event()

        def refuse(liar: Liar, request: str, drawing: assist.Drawing) -> None:
            others.append(stack.enter_context(bystander(federation)))
            liar.say(assist.Busy(request=request, seconds=60.0, reason="full"))
            has_refused.set()

        stack.enter_context(lying(federation, refuse))
        drawn = Drawn(
            device, wish(federation), lambda: has_refused.wait(PATIENCE) and others[0].was_asked.wait(PATIENCE)
        )
    assert isinstance(drawn.came.reason, HelperBusy)
    assert drawn.difference == 0


@pytest.mark.parametrize(
    ("state", "error"),
    [({"base_id": "f" * 64}, StateMismatch), ({"variant": "int8"}, StateMismatch), ({"forms": ["blank"]}, NoHelper)],
)
def test_a_helper_that_does_not_fit_is_not_asked(
    federation: Federation, device: Device, state: dict[str, Any], error: type[ImpastoError]
) -> None:
    """Either of the two may be heard of first: tests/assist/test_asking.py has the errors."""
    with lying(federation, lambda liar, request, drawing: None, **state) as liar, bystander(federation) as other:
        drawn = Drawn(device, wish(federation), lambda: other.was_asked.wait(PATIENCE))
        assert liar.asked == []
    assert isinstance(drawn.came.reason, error | DeadlineExceeded)
    assert drawn.difference == 0


def test_a_helper_whom_nobody_vouches_for_is_not_asked(federation: Federation, device: Device) -> None:
    with lying(federation, lambda liar, request, drawing: None) as liar, bystander(federation) as other:
        liar.signer = assist.HelperSigner(bytes(range(32)), NAME, "liar", Signer(bytes(32), NAME))
        liar.show(online=True)
        drawn = Drawn(device, wish(federation), lambda: other.was_asked.wait(PATIENCE))
        assert liar.asked == []
    assert isinstance(drawn.came.reason, HelperUntrusted | DeadlineExceeded)
    assert drawn.difference == 0


def test_a_helper_without_the_adapters_refuses(federation: Federation, device: Device, tmp_path: Path) -> None:
    folder = tmp_path / "bank"
    folder.mkdir()
    adapters.save(adapter(device.generator, 77), folder / "other.safetensors")
    with running(federation, HelperSettings(adapters=str(folder))) as helper, ExitStack() as stack:

        def wait() -> None:
            helper.wait_for("assist_ended")
            stack.enter_context(bystander(federation)).was_asked.wait(PATIENCE)

        drawn = Drawn(device, wish(federation), wait)
    assert [event["code"] for event in helper.named("assist_ended")] == ["AdapterUnknown"]
    assert isinstance(drawn.came.reason, HelperRefused)
    assert "AdapterUnknown" in str(drawn.came.reason)
    assert drawn.difference == 0


@pytest.mark.parametrize("steps", [6, 7, 1000])
def test_steps_that_a_helper_cannot_draw(federation: Federation, device: Device, steps: int) -> None:
    drawn = Drawn(device, wish(federation, steps=steps), lambda: None)
    assert isinstance(drawn.came.reason, AssistDeclined)
    assert "1 to 5 of 6 steps" in str(drawn.came)
    assert drawn.difference == 0


def test_a_drawing_from_a_picture_stays_here(federation: Federation, device: Device) -> None:
    drawn = Drawn(device, wish(federation), lambda: None, picture=Image.new("RGB", (32, 32)), strength=0.5)
    assert isinstance(drawn.came.reason, AssistDeclined)
    assert drawn.difference == 0


def test_auto_declines_where_too_little_is_saved(federation: Federation, device: Device) -> None:
    """The helper takes longer for a step than this device, which states that it does."""
    with lying(federation, lambda liar, request, drawing: None, seconds=3600.0) as liar:
        drawn = Drawn(device, wish(federation, steps="auto"), lambda: None)
        assert liar.asked == []
    assert isinstance(drawn.came.reason, AssistDeclined | NoHelper)
    assert drawn.difference == 0


def test_a_home_that_has_not_joined(tmp_path: Path) -> None:
    device = Device(bundle=tiny_bundle(), home=tmp_path, threads=1)
    with pytest.raises(ConfigurationError, match="has not joined a federation"):
        device.generate(PROMPT, assist=Assist("mqtt://127.0.0.1:1", form="blank"))


def test_a_drawing_that_is_cancelled(federation: Federation, device: Device) -> None:
    with pytest.raises(ImpastoError, match="cancelled"):
        device.generate(PROMPT, **ARGUMENTS, assist=wish(federation), on_step=lambda step, of, latents: False)


@pytest.mark.parametrize(
    "changes", [{"form": "states"}, {"steps": 0}, {"steps": -1}, {"seconds": 0.0}, {"seconds": 3601.0}]
)
def test_wishes_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Assist(**{"broker": "mqtt://b", "form": "open", **changes})
