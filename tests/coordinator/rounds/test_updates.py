"""Updates that are offered to an open round: in time or late, good or absurd."""

from __future__ import annotations

import msgspec
import pytest

from coordinator.rounds import (
    Fetch,
    Joined,
    Offered,
    Past,
    Report,
    Spoiled,
    Stored,
    Tick,
    step,
)
from edge_sdk.adapter import Share
from edge_sdk.wire.messages import (
    Committed,
    RoundDone,
)
from tests.coordinator.federations import (
    DEVICES,
    Machine,
    deliver,
    manifest,
    offer,
    profile,
    refusals,
    rules,
    started,
    stored,
)


class TestUpdates:
    def test_an_update_is_fetched_then_committed(self) -> None:
        machine = started()
        machine(Offered("a1", offer("a1", 1)))
        assert machine.actions == [Fetch("a1", offer("a1", 1))]
        machine(stored("a1", 1))
        assert machine.sent("a1") == [Committed(sha256=offer("a1", 1).manifest.sha256)]

    def test_an_update_sent_twice_is_committed_again_but_counts_once(self) -> None:
        machine = started()
        deliver(machine, 1, "a1")
        for event in (Offered("a1", offer("a1", 1)), stored("a1", 1)):
            before = machine.state
            machine(event)
            assert machine.sent("a1") == [Committed(sha256=offer("a1", 1).manifest.sha256)]
            assert machine.state == before

    def test_a_lost_acknowledgement_is_repeated_after_the_round(self) -> None:
        machine = started()
        deliver(machine, 1, *DEVICES)
        machine(Offered("a1", offer("a1", 1)))
        assert machine.sent("a1") == [Committed(sha256=offer("a1", 1).manifest.sha256)]

    @pytest.mark.parametrize(
        ("device", "given", "code"),
        [
            ("nobody", offer("nobody", 1), "UnknownDevice"),
            ("a1", offer("a1", 2), "FutureUpdate"),
            ("b3", offer("b3", 1), "NotInCohort"),
            ("a2", offer("a2", 1, variant=1), "DuplicateUpdate"),
            ("a1", offer("a1", 1, first_loss=float("nan")), "OfferInvalid"),
            ("a1", offer("a1", 1, manifest=manifest("x", "root")), "OfferInvalid"),
            ("a1", offer("a1", 1, manifest=manifest("x", size=10_001)), "UpdateTooLarge"),
        ],
    )
    def test_wrong_offers_are_refused_by_name_and_change_nothing(self, device: str, given: object, code: str) -> None:
        machine = started()
        deliver(machine, 1, "a2")
        machine(Joined("b3", profile()))
        before = machine.state
        for event in (Offered(device, given), Stored(device, given, 1.0)):  # type: ignore[arg-type]
            machine(event)
            assert refusals(machine, device) == [code]
            assert machine.state == before

    def test_a_stale_update_is_refused(self) -> None:
        machine = started()
        deliver(machine, 1, "a1", "a2", "b1")
        machine.now = 100.0
        machine(Tick())
        assert machine.state.round == 1
        for event in (Offered("b2", offer("b2", 1)), stored("b2", 1)):
            machine(event)
            assert refusals(machine, "b2") == ["StaleUpdate"]

    def test_nobody_waits_for_an_update_that_was_refused_for_good(self) -> None:
        machine = started()
        deliver(machine, 1, "a1", "a2", "b1")
        machine(Spoiled("b2", offer("b2", 1), "AdapterValueError", "NaN", final=True))
        assert refusals(machine, "b2") == ["AdapterValueError"]
        assert machine.state.round == 1
        assert machine.sent("b2", RoundDone) == [RoundDone(round=1, accepted=False, updates=3)]

    def test_a_failed_transfer_may_be_tried_again(self) -> None:
        machine = started()
        deliver(machine, 1, "a1", "a2", "b1")
        machine(Spoiled("b2", offer("b2", 1), "DeadlineExceeded", "slow", final=False))
        assert machine.state.round == 0
        deliver(machine, 1, "b2")
        assert machine.state.round == 1


class TestOutliers:
    def test_one_of_absurd_size_is_refused_when_the_round_closes(self) -> None:
        machine = started()
        machine(*(stored(name, 1, norm=1.0) for name in ("a1", "a2", "b1")), stored("b2", 1, norm=1001.0))
        assert machine.state.round == 1
        assert refusals(machine, "b2") == ["UpdateOutlier"]
        assert machine.sent("b2", RoundDone) == [RoundDone(round=1, accepted=False, updates=3)]
        assert machine.state.devices["b2"].trace is None
        (closed,) = (a.values for a in machine.actions if isinstance(a, Report) and a.event == "round_closed")
        assert (closed["refused"], closed["updates"], closed["missing"]) == ({"b2": "UpdateOutlier"}, 3, ["b2"])

    def test_large_is_not_absurd(self) -> None:
        machine = started()
        machine(*(stored(name, 1, norm=1.0) for name in ("a1", "a2", "b1")), stored("b2", 1, norm=1000.0))
        assert machine.sent("b2", RoundDone) == [RoundDone(round=1, accepted=True, updates=4)]

    def test_without_a_scale_nothing_is_absurd(self) -> None:
        """If most devices have changed nothing, there is no size to compare with."""
        machine = started()
        machine(*(stored(name, 1, norm=0.0) for name in ("a1", "a2", "b1")), stored("b2", 1, norm=5.0))
        assert machine.sent("b2", RoundDone) == [RoundDone(round=1, accepted=True, updates=4)]


class TestLate:
    def late(self, **changes: object) -> Machine:
        """Round 2, a cluster's, was closed without b2; round 3 is open."""
        machine = started(**{"rounds": 5, "late": 1, **changes})
        deliver(machine, 1, *DEVICES)
        deliver(machine, 2, "a1", "a2", "b1")
        machine.now = 100.0
        machine(Tick())
        assert machine.state.round == 2
        return machine

    def test_it_counts_in_the_open_round_instead(self) -> None:
        machine = self.late()
        machine(Offered("b2", offer("b2", 2)))
        assert machine.actions == [Fetch("b2", offer("b2", 2))]
        deliver(machine, 2, "b2")
        assert machine.sent("b2") == [Committed(sha256=offer("b2", 2).manifest.sha256)]
        assert machine.state.current is not None
        update = machine.state.current.updates["b2"]
        assert (update.late, update.member.start) == (1, None)
        assert update.member.start != machine.state.current.cohort["b2"].start
        machine(Offered("b2", offer("b2", 2)))
        assert machine.sent("b2") == [Committed(sha256=offer("b2", 2).manifest.sha256)]
        machine(Offered("b2", offer("b2", 3)))
        assert refusals(machine, "b2") == ["DuplicateUpdate"]
        deliver(machine, 3, "a1", "a2", "b1")
        assert machine.sent("b2", RoundDone) == [RoundDone(round=3, accepted=True, updates=4)]
        assert machine.state.devices["b2"].trace is not None
        machine(Offered("b2", offer("b2", 2)))
        assert machine.sent("b2") == [Committed(sha256=offer("b2", 2).manifest.sha256)]

    def test_what_it_started_from_is_kept(self) -> None:
        machine = self.late()
        deliver(machine, 3, "a1", "a2", "b1")
        machine.now = 200.0
        machine(Tick())
        missed = machine.state.past[3].absent["b2"]
        assert missed.start is not None
        assert missed.start.sha256 in machine.state.blobs()
        deliver(machine, 4, *DEVICES)
        assert machine.state.past[4] == Past(4, {})

    def test_too_late(self) -> None:
        machine = self.late()
        deliver(machine, 3, *DEVICES)
        machine(Offered("b2", offer("b2", 2)))
        assert refusals(machine, "b2") == ["StaleUpdate"]

    def test_work_for_the_root_is_of_no_use_to_a_cluster(self) -> None:
        machine = started(rounds=5, late=1)
        deliver(machine, 1, "a1", "a2", "b1")
        machine.now = 100.0
        machine(Tick())
        machine(Offered("b2", offer("b2", 1)))
        assert refusals(machine, "b2") == ["StaleUpdate"]

    def test_other_factors_are_of_no_use(self) -> None:
        machine = self.late(shares=(Share.B, Share.A))
        machine(Offered("b2", offer("b2", 2)))
        assert refusals(machine, "b2") == ["StaleUpdate"]

    def test_between_rounds_it_waits(self) -> None:
        """Neither fetched nor refused: the device offers it again."""
        machine = self.late()
        for phase in ("aggregating", "clustering", "gathering"):
            state = msgspec.structs.replace(machine.state, phase=phase)
            if phase != "aggregating":
                state = msgspec.structs.replace(state, current=None)
            after, actions = step(rules(rounds=5, late=2, min_devices=9), state, Offered("b2", offer("b2", 2)), 100.0)
            assert (after, [a for a in actions if isinstance(a, Fetch) or "b2" in getattr(a, "device", "")]) == (
                state,
                [],
            )

    def test_one_that_was_refused_does_not_come_back(self) -> None:
        machine = started(rounds=5, late=1, root_rounds=0)
        deliver(machine, 1, "a1", "a2", "b1")
        machine(Spoiled("b2", offer("b2", 1), "AdapterValueError", "NaN", final=True))
        assert machine.state.round == 1
        machine(Offered("b2", offer("b2", 1, variant=1)))
        assert refusals(machine, "b2") == ["StaleUpdate"]
