"""Devices that join a federation, and that make room for others."""

from __future__ import annotations

import msgspec
import pytest

from coordinator.rounds import (
    Forgotten,
    Heard,
    Joined,
    Left,
    Report,
    Seen,
    replaceable,
)
from edge_sdk.wire.messages import (
    Refused,
    RoundStart,
    Welcome,
)
from tests.coordinator.federations import (
    DEVICES,
    Machine,
    deliver,
    joined,
    profile,
    refusals,
    rules,
    started,
    stored,
)


class TestJoining:
    def test_rounds_start_when_enough_have_joined(self) -> None:
        machine = Machine(rules(min_devices=2))
        machine(Joined("a1", profile()))
        assert machine.sent("a1") == [Welcome(round=0, rounds=3)]
        machine(Joined("a2", profile()))
        (start,) = machine.sent("a1", RoundStart)
        assert start == RoundStart(
            round=1,
            attempt=1,
            rounds=3,
            stage="root",
            cluster=None,
            frozen=[],
            start=None,
            rank=4,
            seed=7,
            steps=5,
            batch_size=2,
            learning_rate=1e-3,
            deadline=100.0,
        )

    @pytest.mark.parametrize(
        ("wrong", "code"),
        [
            ({"base_id": "c" * 64}, "BaseModelMismatch"),
            ({"max_rank": 2}, "RankTooSmall"),
            ({"code": [1.0, 2.0]}, "PromptCodeMismatch"),
            ({"level": "coarse"}, "PrivacyLevelMismatch"),
            ({"level": "of-a-later-version"}, "PrivacyLevelMismatch"),
            ({"basis": bytes(32)}, "PromptBasisMismatch"),
            ({"picture_code": bytes(8), "picture_encoder": b"e" * 32}, "PictureCodeMismatch"),
            ({"picture_code": bytes(20), "picture_encoder": b"f" * 32}, "PictureEncoderMismatch"),
            ({"picture_code": bytes(20)}, "PictureEncoderMismatch"),
        ],
    )
    def test_misfits_are_refused_by_name_and_change_nothing(self, wrong: dict[str, object], code: str) -> None:
        machine = Machine(rules(min_rank=4, code_size=12, picture_size=20, picture_encoder=b"e" * 32))
        machine(Joined("a1", profile()))
        machine(Joined("a2", profile(picture_code=bytes(20), picture_encoder=b"e" * 32)))
        assert machine.sent("a2", Welcome)
        before = machine.state
        machine(Joined("x", profile(**wrong)))  # type: ignore[arg-type]
        assert refusals(machine, "x") == [code]
        assert machine.state == before

    def test_without_an_image_encoder_of_its_own_it_takes_every_picture_code(self) -> None:
        machine = Machine(rules(code_size=12))
        for name, code, encoder in (("a1", bytes(8), b"e" * 32), ("a2", bytes(20), b"")):
            machine(Joined(name, profile(picture_code=code, picture_encoder=encoder)))
            assert machine.sent(name, Welcome)

    def test_a_device_that_joins_again_gets_its_round_start_again(self) -> None:
        machine = started()
        first = machine.sent("a1", RoundStart)
        machine.now = 40.0
        machine(Joined("a1", profile()))
        (again,) = machine.sent("a1", RoundStart)
        assert first == [msgspec.structs.replace(again, deadline=100.0)]
        assert again.deadline == 60.0

    def test_but_not_if_it_has_delivered(self) -> None:
        machine = started()
        deliver(machine, 1, "a1")
        machine(Joined("a1", profile()))
        assert machine.sent("a1") == [Welcome(round=0, rounds=3)]

    def test_a_newcomer_waits_for_the_next_round(self) -> None:
        machine = started()
        machine(Joined("b3", profile()))
        assert machine.sent("b3") == [Welcome(round=0, rounds=3)]
        deliver(machine, 1, *DEVICES)
        (start,) = machine.sent("b3", RoundStart)
        assert (start.round, start.cluster) == (2, 1)

    def test_a_weak_device_trains_a_smaller_rank(self) -> None:
        machine = Machine(rules(min_devices=1))
        machine(Joined("a1", profile(max_rank=2)))
        assert [start.rank for start in machine.sent("a1", RoundStart)] == [2]


class TestMakingRoom:
    def test_who_is_there_or_has_delivered_keeps_his_place(self) -> None:
        machine = Machine(rules(min_devices=9, grace=10))
        machine(joined("there"), Joined("name", profile()), joined("gone"), Seen("gone", False, 1))
        assert replaceable(machine.rules, machine.state, machine.now, frozenset()) is None
        machine.now = 5.0
        machine(Heard("gone"))
        machine.now = 15.0
        assert replaceable(machine.rules, machine.state, machine.now, frozenset()) == "name", "away the longest"
        machine(Forgotten("name"))
        assert replaceable(machine.rules, machine.state, machine.now, frozenset()) == "gone"
        machine(Forgotten("gone"))
        assert replaceable(machine.rules, machine.state, machine.now, frozenset()) is None
        assert machine.state.devices.keys() == {"there"}
        machine(Joined("name", profile()))
        assert machine.sent("name", Welcome)

    def test_not_while_the_round_goes_on(self) -> None:
        machine = started(late=1)
        machine(Left("b2", shut_out=True), Forgotten("b2"))
        assert "b2" in machine.state.devices
        assert replaceable(machine.rules, machine.state, machine.now, frozenset({"b2"})) is None
        deliver(machine, 1, "a1", "a2", "b1")
        machine(Left("a1", shut_out=True))
        deliver(machine, 2, "a2", "b1")
        assert machine.state.round == 2
        machine.now = 20.0
        assert replaceable(machine.rules, machine.state, machine.now, frozenset()) == "b2", (
            "the other one has delivered"
        )
        machine(Left("a1", shut_out=True))
        assert machine.state.current
        assert "a1" not in machine.state.current.cohort
        assert replaceable(machine.rules, machine.state, machine.now, frozenset({"a1"})) == "a1", "shut out"

    def test_a_round_of_mere_names_holds_nobody_up(self) -> None:
        machine = Machine(rules(min_devices=2, grace=10, deadline=100))
        machine(Joined("x", profile()), Joined("y", profile()))
        assert machine.state.phase == "training"
        assert replaceable(machine.rules, machine.state, 9.0, frozenset()) is None
        machine.now = 10.0
        machine(Forgotten(replaceable(machine.rules, machine.state, 10.0, frozenset()) or ""))
        assert machine.state.phase == "gathering"
        assert machine.state.devices.keys() == {"y"}
        assert [a.event for a in machine.actions if isinstance(a, Report)] == ["round_abandoned", "device_forgotten"]

    def test_nothing_is_taken_of_who_was_forgotten(self) -> None:
        machine = started(late=2)
        machine(Left("b2"))
        machine.now = 6.0
        deliver(machine, 1, "a1", "a2", "b1")
        assert "b2" in machine.state.past[1].absent
        machine(Forgotten("b2"))
        assert "b2" not in machine.state.past[1].absent
        machine(stored("b2", 1))
        (refused,) = machine.sent("b2", Refused)
        assert refused.code == "UnknownDevice"
