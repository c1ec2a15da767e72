"""Callbacks that fail end no membership; `stop` ends one, from anywhere and at any time."""

from __future__ import annotations

import logging
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, get_args

import pytest

from edge_sdk import Device
from edge_sdk.errors import MembershipStopped
from edge_sdk.exits import Exit
from edge_sdk.membership import Membership, MembershipResult, Observer, RoundPlan, Train, TrainedUpdate
from edge_sdk.membership.rounds import Phase, Rules, SayLeave, State, Stop, step
from edge_sdk.wire import Leave, Offer, RoundDone
from tests.integration.devices import profile
from tests.membership.stage import Learner, Stage, join, start
from tests.models import tiny_bundle, tiny_model
from tests.training.samples import write_squares
from tests.transport.brokers import free_port


def never(plan: RoundPlan) -> TrainedUpdate:
    raise AssertionError("was asked to train")


class Mine:
    """A membership in a thread."""

    def __init__(self, url: str, home: Path, train: Train = never, on_event: Any = None, **run: Any) -> None:
        self.membership = Membership(url, "tastes", "me", profile("apples", 0), home, train, on_event)
        self.outcome: queue.Queue[MembershipResult | BaseException] = queue.Queue()
        self._run = run

    def start(self) -> Mine:
        threading.Thread(target=self._work, daemon=True).start()
        return self

    def _work(self) -> None:
        try:
            with self.membership:
                result = self.membership.run(**self._run)
            self.outcome.put(result)
        except BaseException as error:
            self.outcome.put(error)

    def result(self) -> MembershipResult:
        outcome = self.outcome.get(timeout=30)
        assert isinstance(outcome, MembershipResult), outcome
        return outcome


def test_an_observer_that_fails_ends_nothing_and_is_logged_once_for_each_type(
    url: str, stage: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "edge_sdk.membership")
    told: list[str] = []

    def fail(event: dict[str, Any]) -> None:
        told.append(event["event"])
        raise KeyError("round") if event["event"] == "round_done" else RuntimeError("the screen is off")

    mine = Mine(url, tmp_path, Learner(), fail, rounds=1).start()
    join(stage)
    stage.say(start())
    stage.take(stage.hear(Offer))
    stage.say(RoundDone(round=1, accepted=True, updates=1))
    stage.say(start(2))
    assert mine.result().updates == 1
    assert {"joined", "trained", "round_done", "finished"} <= set(told), "it is called again and again"
    warnings = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "on_event has failed (RuntimeError: the screen is off). The membership goes on" in warnings[0]
    assert "KeyError" in warnings[1]
    assert all("stop()" in said for said in warnings)
    assert [bool(one.exc_info) for one in caplog.records if one.name.endswith(".observer")] == [False, True] * 2


def test_what_is_no_error_passes_an_observer() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Observer("on_event", interrupted)()


def test_a_callback_may_stop_it(url: str, stage: Stage, tmp_path: Path) -> None:
    def leave(event: dict[str, Any]) -> None:
        if event["event"] == "joined":
            mine.membership.stop()

    mine = Mine(url, tmp_path, on_event=leave).start()
    join(stage)
    assert "owner" in stage.hear(Leave).reason
    result = mine.result()
    assert (result.finished, result.updates, result.adapters) == (False, 0, {})


def test_another_thread_may_stop_it_while_it_waits(url: str, stage: Stage, tmp_path: Path) -> None:
    waits = threading.Event()

    def note(event: dict[str, Any]) -> None:
        if event["event"] == "joined":
            waits.set()

    mine = Mine(url, tmp_path, on_event=note, deadline=3600.0).start()
    join(stage)
    assert waits.wait(30)
    mine.membership.stop()
    assert not mine.result().finished
    stage.hear(Leave)


def test_a_training_that_is_stopped_goes_on_in_the_next_session(url: str, stage: Stage, tmp_path: Path) -> None:
    plans: list[RoundPlan] = []

    def stopped(plan: RoundPlan) -> TrainedUpdate:
        plans.append(plan)
        assert plan.checkpoint is not None
        plan.checkpoint.write_bytes(b"so far")
        mine.membership.stop()
        assert mine.membership.stopped
        raise MembershipStopped("later")

    mine = Mine(url, tmp_path, stopped).start()
    join(stage)
    stage.say(start())
    stage.hear(Leave)
    assert mine.result().updates == 0

    learn = Learner()

    def resumed(plan: RoundPlan) -> TrainedUpdate:
        assert plan.checkpoint is not None
        assert plan.checkpoint.read_bytes() == b"so far"
        return learn(plan)

    again = Mine(url, tmp_path, resumed, rounds=1).start()
    join(stage)
    stage.say(start())
    stage.take(stage.hear(Offer))
    stage.say(RoundDone(round=1, accepted=True, updates=1))
    stage.say(start(2))
    assert again.result().updates == 1


def test_what_was_trained_when_it_is_stopped_is_handed_in_by_the_next_session(
    url: str, stage: Stage, tmp_path: Path
) -> None:
    learn = Learner()

    def last(plan: RoundPlan) -> TrainedUpdate:
        mine.membership.stop()
        return learn(plan)

    mine = Mine(url, tmp_path, last).start()
    join(stage)
    stage.say(start())
    assert mine.result().updates == 0
    again = Mine(url, tmp_path, rounds=1).start()
    join(stage)
    stage.say(start())
    stage.take(stage.hear(Offer))
    stage.say(RoundDone(round=1, accepted=True, updates=1))
    stage.say(start(2))
    assert again.result().updates == 1


def test_that_a_training_says_it_was_stopped_is_an_error_if_nobody_stopped_it(
    url: str, stage: Stage, tmp_path: Path
) -> None:
    def stopped(plan: RoundPlan) -> TrainedUpdate:
        raise MembershipStopped("by nobody")

    mine = Mine(url, tmp_path, stopped).start()
    join(stage)
    stage.say(start())
    assert isinstance(mine.outcome.get(timeout=30), MembershipStopped)


def test_it_may_be_stopped_while_no_broker_answers(tmp_path: Path) -> None:
    def leave(event: dict[str, Any]) -> None:
        if event["event"] == "broker_unreachable":
            mine.membership.stop()

    mine = Mine(f"mqtt://127.0.0.1:{free_port()}", tmp_path, on_event=leave, answer=3600.0).start()
    assert not mine.result().finished


def test_one_that_was_stopped_before_does_not_begin(tmp_path: Path) -> None:
    mine = Mine(f"mqtt://127.0.0.1:{free_port()}", tmp_path)
    mine.membership.stop()
    assert not mine.start().result().finished


@pytest.mark.parametrize("phase", get_args(Phase))
def test_every_phase_may_be_its_last(phase: Phase) -> None:
    state, actions = step(Rules(federation="tastes"), State(phase=phase), Stop(), 0.0)
    assert state.phase == "home"
    assert [type(action) for action in actions] == ([] if phase in ("seeking", "home") else [SayLeave])


def test_a_device_trains_on_past_callbacks_that_fail_and_stops_after_a_step(
    url: str, stage: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = write_squares(tmp_path / "pictures", 8)
    device = Device(tiny_bundle(), model=tiny_model(), pictures=pictures, home=tmp_path / "home", threads=1)
    steps: list[int] = []

    def fail(plan: RoundPlan) -> None:
        raise RuntimeError(f"no screen for round {plan.round}")

    def stop_after_two(progress: Any) -> None:
        steps.append(progress.step)
        if progress.step == 2:
            membership.stop()
        raise RuntimeError("no bar")

    with device.join(
        url, federation="tastes", device_id="me", privacy="plain", on_plan=fail, on_step=stop_after_two
    ) as membership:  # fmt: skip
        results: queue.Queue[MembershipResult] = queue.Queue()
        threading.Thread(target=lambda: results.put(membership.run()), daemon=True).start()
        join(stage)
        stage.say(start(rank=2, steps=1_000_000))
        stage.hear(Leave)
        assert not results.get(timeout=60).finished
    assert steps == [1, 2]
    said = " ".join(one.getMessage() for one in caplog.records)
    assert "on_plan has failed (RuntimeError: no screen for round 1)" in said
    assert said.count("on_step has failed") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device on this system")
def test_the_command_does_not_go_on_when_nobody_can_read_it(tmp_path: Path) -> None:
    """As with a full disk, or `impasto join | head`: it ended by the error of the observer before."""
    pictures = write_squares(tmp_path / "pictures", 8)
    command = [
        *(sys.executable, "-c", "from edge_sdk.cli import main; main()", "join", "--json"),
        *("--broker", f"mqtt://127.0.0.1:{free_port()}", "-f", "tastes", "-b", str(tiny_bundle())),
        *("-m", str(tiny_model()), "-p", str(pictures), "--home", str(tmp_path / "home"), "--threads", "1"),
    ]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=250, check=False)
    assert done.returncode == Exit.STORAGE
    assert "No space left on device" in done.stderr
