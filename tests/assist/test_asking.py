"""A request to helpers without I/O: whom it asks, what it makes of answers, when it gives up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_sdk.device.assist.asking import Asking, Said, Wanted
from edge_sdk.errors import (
    AssistDeclined,
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
from edge_sdk.inference import Course, DrawingState, SolverState
from edge_sdk.membership import Identity
from edge_sdk.wire import Committed, Pull, Refused, Sender, Signer, assist, make_manifest

COORDINATOR, DEVICE_KEY = Signer(bytes(32), "tastes"), bytes(range(32))
IDENTITY = Identity("tastes", "pi-4", DEVICE_KEY, COORDINATOR.public)
COURSE = Course("b1", "fp32", "s", "ddim", 25)
SIGNERS = {
    name: assist.HelperSigner(bytes([number] * 32), "tastes", name, COORDINATOR)
    for number, name in enumerate(("fast", "slow"), 1)
}
STATE = DrawingState(COURSE, 12, SolverState(np.zeros((1, 4, 8, 8), np.float32)))


def drawing(k: int) -> assist.Drawing:
    return assist.Drawing(
        base_id="b1", variant="fp32", schedule="s", scheduler="ddim", steps=25, until=k, guidance=5.0, width=32,
        height=32, seed=7, hybrid="merge", adapters=[], form="blank", prompt=[], negative=None, deadline=1e9,
    )  # fmt: skip


WANTED = Wanted(
    course=COURSE, form="blank", pixels=1024, room=8192, plan=lambda state: 12, worth=lambda state, k, seconds: None,
    drawing=drawing, check=lambda state: state.check(COURSE, (1, 4, 8, 8), 1e4), done=lambda: 0,
)  # fmt: skip


def helper(name: str, **changes: Any) -> assist.HelperState:
    values: dict[str, Any] = {
        "online": True, "epoch": 5, "base_id": "b1", "variant": "fp32", "schedule": "s", "forms": ["blank"],
        "largest": 4096, "seconds": {"fast": 1.0, "slow": 9.0}[name],
    }  # fmt: skip
    return SIGNERS[name].state(**{**values, **changes})


def asking(*helpers: assist.HelperState, wanted: Wanted = WANTED) -> tuple[Asking, list[Said]]:
    """A request, at time 1, and what it said: helpers have shown themselves at time 0."""
    made = Asking(IDENTITY, wanted, deadline=100.0)
    for state in helpers:
        made.on_state(state.helper, state)
    assert made.tick(0.0) == []
    return made, made.tick(1.0)


def asked(said: list[Said]) -> str:
    ((name, message),) = said
    assert isinstance(message, assist.Ask)
    assert assist.asks(message, Signer(DEVICE_KEY, "tastes").public, "tastes", name, SIGNERS[name].public, "pi-4")
    return assist.request_id(message.drawing)


def offer(name: str, request: str, data: bytes) -> tuple[assist.Drawn, bytes]:
    """An answer, and its only chunk."""
    manifest = make_manifest(data, role="state", name="drawing")
    return SIGNERS[name].drawn("pi-4", request, manifest, 1.0), Sender(data, manifest).chunk(0)


def answered(made: Asking, request: str, data: bytes, now: float = 2.0) -> list[Said]:
    drawn, chunk = offer("fast", request, data)
    ((to, pull),) = made.on_message("fast", drawn, now)
    assert to == "fast"
    assert isinstance(pull, Pull)
    return made.on_chunk("fast", chunk, now)


def test_the_fastest_is_asked_and_its_answer_is_taken() -> None:
    made, said = asking(helper("slow"), helper("fast"))
    request = asked(said)
    assert said[0][0] == "fast"
    assert made.on_message("fast", assist.Queued(request=request, position=1, seconds=9.0), 1.5) == []
    ((_, last),) = answered(made, request, STATE.to_bytes())
    assert isinstance(last, Committed)
    assert made.answer is not None
    assert (made.answer.step, made.helper) == (12, "fast")
    assert made.tick(50.0) == []
    assert made.stop() == []


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"base_id": "b2"}, StateMismatch),
        ({"variant": "int8"}, StateMismatch),
        ({"schedule": "other"}, StateMismatch),
        ({"forms": ["open"]}, NoHelper),
        ({"largest": 1023}, NoHelper),
    ],
)
def test_one_that_does_not_fit_is_not_asked(changes: dict[str, Any], error: type[ImpastoError]) -> None:
    made, said = asking(helper("fast", **changes))
    assert said == []
    assert isinstance(made.reason, error)
    made.on_state("slow", helper("slow"))
    ((name, _),) = made.tick(2.0)
    assert name == "slow"


def test_one_that_nobody_vouches_for_is_not_asked() -> None:
    made, _ = asking()
    stranger = assist.HelperSigner(bytes(range(32)), "tastes", "fast", Signer(bytes([7] * 32), "tastes"))
    values = {name: getattr(helper("fast"), name) for name in ("online", "epoch", "base_id", "variant", "schedule")}
    with pytest.raises(HelperUntrusted):
        made.on_state("fast", stranger.state(**values, forms=["blank"], largest=4096, seconds=0.0))
    assert made.tick(5.0) == []
    assert isinstance(made.reason, NoHelper)


def test_one_that_is_offline_is_not_asked() -> None:
    _, said = asking(helper("fast", online=False))
    assert said == []


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (lambda request: assist.Busy(request=request, seconds=5.0, reason="full"), HelperBusy),
        (lambda request: Refused(code="AdapterUnknown", reason="none", about=request), HelperRefused),
        (lambda request: Refused(code="UnknownDevice", reason="join", about=""), HelperRefused),
    ],
)
def test_the_next_one_is_asked(refusal: Any, error: type[ImpastoError]) -> None:
    made, said = asking(helper("fast"), helper("slow"))
    assert made.on_message("fast", refusal(asked(said)), 1.5) == []
    assert isinstance(made.reason, error)
    ((name, _),) = made.tick(2.0)
    assert name == "slow"
    made.on_message("slow", refusal(asked(said)), 2.5)  # of another request: nothing comes of it
    assert made.tick(2.6) == []


def test_a_request_that_nobody_answers_is_repeated_then_given_up() -> None:
    made, said = asking(helper("fast"))
    times = [now for now in np.arange(1.0, 20.0, 0.5) if made.tick(float(now)) == said]
    assert times == [4.0, 7.0]
    assert isinstance(made.reason, DeadlineExceeded)
    assert "does not answer" in str(made.reason)


def test_one_that_waits_in_a_queue_is_asked_again_now_and_then() -> None:
    made, said = asking(helper("fast"))
    queued = assist.Queued(request=asked(said), position=3, seconds=60.0)
    made.on_message("fast", queued, 2.0)
    assert made.tick(16.9) == []
    assert made.tick(17.0) == said
    assert made.tick(17.1) == []


def test_the_deadline_ends_it() -> None:
    made, said = asking(helper("fast"))
    made.on_message("fast", assist.Queued(request=asked(said), position=3, seconds=60.0), 2.0)
    ((_, last),) = made.tick(100.0)
    assert isinstance(last, assist.Cancel)
    assert isinstance(made.reason, DeadlineExceeded)
    assert made.tick(101.0) == []


@pytest.mark.parametrize("gone", [{"online": False}, {"epoch": 6}])
def test_one_that_goes_while_it_draws(gone: dict[str, Any]) -> None:
    made, said = asking(helper("fast"), helper("slow"))
    asked(said)
    made.on_state("fast", helper("fast", **gone))
    assert isinstance(made.reason, NoHelper)
    assert "has gone" in str(made.reason)
    names = [name for name, _ in made.tick(2.0)]
    assert names == (["fast"] if gone == {"epoch": 6} else ["slow"])  # a new start is asked again


def test_a_late_will_of_an_earlier_start_changes_nothing() -> None:
    made, said = asking(helper("fast"))
    asked(said)
    made.on_state("fast", helper("fast", online=False, epoch=4))
    assert isinstance(made.reason, DeadlineExceeded)


NAN = DrawingState(COURSE, 12, SolverState(np.full((1, 4, 8, 8), np.nan, np.float32)))
BASE = DrawingState(Course("b2", "fp32", "s", "ddim", 25), 12, STATE.solver)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (NAN.to_bytes(), StateInvalid),
        (BASE.to_bytes(), StateMismatch),
        (replace(STATE, step=11).to_bytes(), StateInvalid),
        (b"x", StateInvalid),
    ],
    ids=["nan", "another base", "another step", "no state"],
)
def test_answers_that_are_wrong(data: bytes, error: type[ImpastoError]) -> None:
    made, said = asking(helper("fast"))
    ((_, last),) = answered(made, asked(said), data)
    assert isinstance(last, assist.Cancel)
    assert made.answer is None
    assert isinstance(made.reason, error)


def test_an_answer_that_is_too_large_is_not_fetched() -> None:
    made, said = asking(helper("fast"))
    drawn, _ = offer("fast", asked(said), bytes(9000))
    ((_, last),) = made.on_message("fast", drawn, 2.0)
    assert isinstance(last, assist.Cancel)
    assert isinstance(made.reason, StateInvalid)


def test_answers_to_others_change_nothing() -> None:
    made, said = asking(helper("fast"), helper("slow"))
    request = asked(said)
    old, _ = offer("fast", "a" * 64, STATE.to_bytes())
    with pytest.raises(MessageOutdated):
        made.on_message("fast", old, 2.0)
    forged, _ = offer("slow", request, STATE.to_bytes())
    with pytest.raises(SignatureInvalid):
        made.on_message("fast", forged, 2.0)
    assert made.on_message("slow", forged, 2.0) == []
    answered(made, request, STATE.to_bytes())
    assert made.answer is not None


def test_it_ends_when_the_device_is_as_far_by_itself() -> None:
    done = [0]
    made, said = asking(helper("fast"), wanted=replace(WANTED, done=lambda: done[0]))
    asked(said)
    done[0] = 11
    assert made.tick(2.0) == []
    done[0] = 12
    ((_, last),) = made.tick(2.1)
    assert isinstance(last, assist.Cancel)
    assert isinstance(made.reason, DeadlineExceeded)
    assert made.tick(3.0) == made.stop() == []


def test_stopping_takes_the_request_back() -> None:
    made, said = asking(helper("fast"))
    request = asked(said)
    ((name, last),) = made.stop()
    asker = assist.Asker(DEVICE_KEY, "tastes", "pi-4", "fast", SIGNERS["fast"].public)
    assert (name, last) == ("fast", asker.cancel(request))


def decline(*_: object) -> Any:
    raise AssistDeclined("too little")


def test_a_plan_may_decline_or_wait() -> None:
    made, said = asking(helper("fast"), wanted=replace(WANTED, plan=decline))
    assert said == []
    assert isinstance(made.reason, AssistDeclined)
    ready = [False]
    made, said = asking(helper("fast"), wanted=replace(WANTED, plan=lambda state: 12 if ready[0] else None))
    assert said == []
    ready[0] = True
    asked(made.tick(2.0))


def test_a_queue_that_is_too_long_is_left() -> None:
    made, said = asking(helper("fast"), wanted=replace(WANTED, worth=decline))
    queued = assist.Queued(request=asked(said), position=9, seconds=900.0)
    ((_, last),) = made.on_message("fast", queued, 2.0)
    assert isinstance(last, assist.Cancel)
    assert isinstance(made.reason, AssistDeclined)
