"""The round machine, case by case."""

from __future__ import annotations

import msgspec
import pytest

from coordinator.rounds import (
    Aggregate,
    Aggregated,
    Cluster,
    Clustered,
    Failed,
    Fetch,
    Forgotten,
    Heard,
    Joined,
    Left,
    Lineage,
    Offered,
    Past,
    Place,
    Placed,
    Reconnected,
    Report,
    Restarted,
    Round,
    Seen,
    Served,
    Spoiled,
    State,
    Stored,
    Table,
    Tick,
    all_served,
    awaited,
    next_wake,
    replaceable,
    step,
)
from edge_sdk.adapter import Share
from edge_sdk.wire.messages import (
    Committed,
    Finished,
    Presence,
    Refused,
    RoundDone,
    RoundStart,
    Welcome,
    decode,
    encode,
)
from tests.coordinator.federations import (
    DEVICES,
    Machine,
    deliver,
    joined,
    manifest,
    offer,
    profile,
    rules,
    saved_and_loaded,
    started,
    stored,
)


def refusals(machine: Machine, device: str) -> list[str]:
    return [message.code for message in machine.sent(device, Refused) if isinstance(message, Refused)]


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


class TestRounds:
    def test_root_then_clusters(self) -> None:
        machine = started()
        deliver(machine, 1, *DEVICES)
        root = manifest("root/1", "root")
        (start,) = machine.sent("b1", RoundStart)
        assert (start.round, start.stage, start.cluster, start.frozen, start.start) == (2, "cluster", 1, [root], None)
        assert start.seed != 7
        deliver(machine, 2, *DEVICES)
        (start,) = machine.sent("b1", RoundStart)
        assert (start.round, start.start) == (3, manifest("1/2", "cluster"))
        deliver(machine, 3, *DEVICES)
        assert machine.sent("b1", RoundDone) == [RoundDone(round=3, accepted=True, updates=4)]
        assert machine.sent("b1", Finished) == [
            Finished(rounds=3, cluster=1, adapters=[root, manifest("1/3", "cluster"), manifest("0/3", "cluster")])
        ]

    def test_without_root_rounds(self) -> None:
        machine = started(root_rounds=0)
        (start,) = machine.sent("a1", RoundStart)
        assert (start.stage, start.cluster, start.frozen) == ("cluster", 0, [])

    def test_quorum_is_not_enough_before_the_deadline(self) -> None:
        machine = started()
        deliver(machine, 1, "a1", "a2", "b1")
        machine.now = 99.0
        machine(Tick())
        assert machine.state.round == 0
        assert next_wake(machine.rules, machine.state, machine.now) == 100.0

    def test_the_deadline_closes_a_round_with_quorum(self) -> None:
        machine = started()
        deliver(machine, 1, "a1", "b1")
        machine.now = 100.0
        machine(Tick())
        assert machine.state.round == 1
        assert machine.sent("a1", RoundDone) == [RoundDone(round=1, accepted=True, updates=2)]
        assert machine.sent("a2", RoundDone) == [RoundDone(round=1, accepted=False, updates=2)]

    def test_a_round_without_quorum_is_extended_then_closed_with_what_there_is(self) -> None:
        machine = started()
        deliver(machine, 1, *DEVICES)
        deliver(machine, 2, "a1")
        machine.now = 100.0
        machine(Tick())
        assert machine.state.round == 1
        assert [start.deadline for start in machine.sent("b2", RoundStart)] == [100.0]
        assert machine.sent("a1") == []
        machine.now = 200.0
        machine(Tick())
        assert machine.state.round == 2

    def test_a_round_in_which_nobody_delivers_begins_again(self) -> None:
        machine = started()
        for machine.now in (100.0, 200.0):
            machine(Tick())
        assert "round_abandoned" in [action.event for action in machine.actions if isinstance(action, Report)]
        (start,) = machine.sent("a1", RoundStart)
        assert isinstance(start, RoundStart)
        assert (start.round, start.attempt) == (1, 2)
        machine(*(stored(name, 1, attempt=2) for name in DEVICES))
        assert (machine.state.round, machine.state.attempt) == (1, 3)

    def test_an_update_for_a_round_that_was_abandoned_is_not_one_for_the_next_opening(self) -> None:
        """A device has changed its cluster meanwhile: what it trained is of no use there."""
        machine = started(root_rounds=0)
        for machine.now in (100.0, 200.0):
            machine(Tick())
        for event in (Offered("a1", offer("a1", 1)), stored("a1", 1)):
            before = machine.state
            machine(event)
            assert refusals(machine, "a1") == ["OtherAttempt"]
            assert machine.state == before
        machine(Spoiled("a1", offer("a1", 1), "AdapterValueError", "NaN", final=True))
        assert machine.state == before, "nor does it stand in the way of another one"
        machine(stored("a1", 1, 1, attempt=2))
        assert machine.sent("a1") == [Committed(sha256=offer("a1", 1, 1).manifest.sha256)]

    def test_while_a_round_is_being_opened_anew_nothing_counts_for_it(self) -> None:
        machine = started()
        machine.now = 100.0
        machine(Tick())
        machine.state, _ = step(machine.rules, machine.state, Tick(), 200.0)
        assert machine.state.phase == "clustering"
        machine(Offered("a1", offer("a1", 1)))
        assert refusals(machine, "a1") == ["OtherAttempt"]

    def test_late_is_what_was_trained_for_the_opening_that_was_closed(self) -> None:
        machine = started(root_rounds=0, rounds=5, late=1)
        for machine.now in (100.0, 200.0):
            machine(Tick())
        machine(*(stored(name, 1, attempt=2) for name in ("a1", "a2", "b1")))
        machine.now = 300.0
        machine(Tick())
        assert machine.state.round == 1
        machine(Offered("b2", offer("b2", 1, attempt=1)))
        assert refusals(machine, "b2") == ["OtherAttempt"]
        machine(stored("b2", 1, attempt=2))
        assert machine.sent("b2") == [Committed(sha256=offer("b2", 1).manifest.sha256)]

    def test_a_device_that_leaves_is_not_waited_for(self) -> None:
        machine = started()
        deliver(machine, 1, "a1", "a2", "b1")
        machine(Left("b2", "battery"))
        assert machine.state.round == 0, "it may not have been the device that said so"
        assert [refused.about for refused in machine.sent("b2", Refused)] == ["leave"]
        wake = next_wake(machine.rules, machine.state, machine.now)
        assert wake == 5.0
        machine.now = wake
        machine(Tick())
        assert machine.state.round == 1
        assert machine.sent("b2", RoundStart) == []

    def test_one_that_was_shut_out_is_not_waited_for_at_all(self) -> None:
        machine = started()
        deliver(machine, 1, "a1", "a2", "b1")
        machine(Left("b2", "Revoked", shut_out=True))
        assert machine.state.round == 1
        assert machine.sent("b2", Refused) == []

    def test_an_update_of_a_device_that_left_still_counts(self) -> None:
        machine = started()
        deliver(machine, 1, "a1")
        machine(Left("a1"))
        deliver(machine, 1, "a2", "b1", "b2")
        assert machine.sent("a2", RoundDone) == [RoundDone(round=1, accepted=True, updates=4)]

    def test_a_device_that_is_offline_is_waited_for_during_its_grace(self) -> None:
        machine = started()
        machine(Seen("b2", True, 5))
        deliver(machine, 1, "a1", "a2", "b1")
        machine.now = 20.0
        machine(Seen("b2", False, 5))
        assert next_wake(machine.rules, machine.state, machine.now) == 30.0
        machine.now = 29.0
        machine(Tick())
        assert machine.state.round == 0
        machine.now = 30.0
        machine(Tick())
        assert machine.state.round == 1

    def test_a_device_that_was_given_up_wakes_nobody(self) -> None:
        machine = started()
        machine(Seen("b2", False, 5))
        machine.now = 50.0
        assert next_wake(machine.rules, machine.state, machine.now) == 100.0

    def test_the_late_death_of_an_old_session_is_void(self) -> None:
        machine = started()
        machine(Seen("b2", True, 6), Seen("b2", False, 5))
        assert machine.state.devices["b2"].until is None

    def test_everybody_leaves_and_comes_back(self) -> None:
        machine = started()
        machine(*(Left(name) for name in DEVICES))
        machine.now = 5.0
        machine(Tick())
        assert machine.state.phase == "gathering"
        machine(*(Joined(name, profile()) for name in DEVICES))
        assert machine.state.phase == "training"
        assert machine.state.round == 0

    def test_a_federation_under_way_goes_on_with_quorum(self) -> None:
        machine = started()
        deliver(machine, 1, *DEVICES)
        machine(Left("a1"))
        deliver(machine, 2, "a2", "b1", "b2")
        machine.now = 5.0
        machine(Tick())
        assert [start.round for start in machine.sent("a2", RoundStart)] == [3]

    def test_repeated_joins_and_births_change_nothing(self) -> None:
        """Nothing is saved anew for them."""
        machine = started()
        machine(Seen("a1", True, 5))
        before = machine.state
        machine(Joined("a1", profile()), Seen("a1", True, 5), Left("nobody"), Heard("a1"), Heard("nobody", offers=True))
        assert machine.state is before

    def test_a_round_that_makes_nothing_is_used_up_and_told(self) -> None:
        """If it began again with the updates that devices have kept, it would fail for ever, restarts or not."""
        given = rules(min_devices=1)
        machine = Machine(given)
        machine(Joined("a1", profile()))
        asked, _ = step(given, machine.state, stored("a1", 1), 0.0)
        unmade = Failed(1, "AdapterValueError", "huge numbers")
        state, actions = step(given, asked, unmade, 0.0)
        assert (state.round, state.root, state.devices["a1"].trace) == (1, Lineage(), None)
        values = {"round": 1, "code": "AdapterValueError", "reason": "huge numbers"}
        assert actions[0] == Report("round_failed", values)
        machine.state, machine.actions = state, actions
        assert machine.sent("a1") == [RoundDone(round=1, accepted=False, updates=0)]
        (question,) = [action for action in actions if isinstance(action, Cluster)]
        assert step(given, state, Restarted(), 0.0)[1] == [question]
        assert step(given, state, unmade, 0.0) == (state, [])

    def test_the_last_round_may_make_nothing(self) -> None:
        given = rules(min_devices=1, rounds=1, root_rounds=0)
        machine = Machine(given)
        machine(Joined("a1", profile()))
        state, _ = step(given, machine.state, stored("a1", 1), 0.0)
        state, actions = step(given, state, Failed(1, "AdapterValueError", "huge numbers"), 0.0)
        machine.state, machine.actions = state, actions
        assert machine.sent("a1", Finished) == [Finished(rounds=1, cluster=0, adapters=[])]

    def test_what_was_folded_before_a_failed_last_root_round_is_not_lost(self) -> None:
        given = rules(min_devices=1, rounds=2)
        root, under = manifest("root", "root"), manifest("under", "root")
        machine = Machine(given, State(root=Lineage(root, under)))
        machine(Joined("a1", profile()))
        asked, _ = step(given, machine.state, stored("a1", 1), 0.0)
        machine.state, _ = step(given, asked, Failed(1, "AdapterValueError", "huge numbers"), 0.0)
        machine(Clustered({"a1": 0}))
        assert [message.frozen for message in machine.sent("a1", RoundStart)] == [[root, under]]
        deliver(machine, 2, "a1")
        assert [message.adapters[:2] for message in machine.sent("a1", Finished)] == [[root, under]]

    def test_without_a_new_clustering_devices_stay_where_they_are(self) -> None:
        given = rules(min_devices=1)
        failed = Failed(1, "LinAlgError", "no convergence")
        state, _ = step(given, State(), Joined("a1", profile()), 0.0)
        first, _ = step(given, state, failed, 0.0)
        assert (first.phase, first.devices["a1"].cluster) == ("training", 0)
        devices = {**state.devices, "b1": state.devices["a1"], "b2": state.devices["a1"]}
        devices["b1"], devices["b2"] = (msgspec.structs.replace(devices["b1"], cluster=c) for c in (4, 7))
        later = State(phase="clustering", devices=devices, next_cluster=8)
        state, actions = step(given, later, failed, 0.0)
        assert {name: device.cluster for name, device in state.devices.items()} == {"a1": 4, "b1": 4, "b2": 7}
        assert "clustering_failed" in [action.event for action in actions if isinstance(action, Report)]

    def test_a_cluster_that_splits_goes_on_from_its_parents_adapter(self) -> None:
        given = rules(root_rounds=0)
        state = State(clusters={0: Lineage(manifest("0/1", "cluster"))}, round=1, next_cluster=1, phase="clustering")
        state, _ = step(given, state, Joined("a1", profile()), 0.0)
        state, _ = step(given, state, Joined("b1", profile()), 0.0)
        state, _ = step(given, state, Clustered({"a1": 0, "b1": 1}, {1: 0}), 0.0)
        assert state.clusters == {0: Lineage(manifest("0/1", "cluster")), 1: Lineage(manifest("0/1", "cluster"))}
        assert state.next_cluster == 2


class TestPatience:
    """The devices that a round waits for, and the times at which it is woken. The deadline is 100 s, grace 10."""

    def closes_at(self, machine: Machine) -> float:
        """Time at which the open round ends, if nothing happens and the machine is called only when it asks for it."""
        assert machine.state.current is not None
        attempt = machine.state.current.attempt
        while machine.state.current is not None and machine.state.current.attempt == attempt:
            wake = next_wake(machine.rules, machine.state, machine.now)
            assert wake is not None
            machine.now = wake
            machine(Tick())
        return machine.now

    def test_grace_ends_by_itself_whenever_it_began(self) -> None:
        """The sum of both times may be no exact float, and the machine may be called a little later."""
        for began in (20.0, 33.3, 71.07):
            machine = started()
            deliver(machine, 1, "a1", "a2", "b1")
            machine.now = began
            machine(Seen("b2", False, 5))
            assert next_wake(machine.rules, machine.state, machine.now) == began + 10.0
            assert next_wake(machine.rules, machine.state, began + 9.9) == began + 10.0
            machine.now = began + 10.003
            machine(Tick())
            assert machine.state.round == 1

    @pytest.mark.parametrize("names", [2, 200])
    def test_names_without_presence_hold_nothing_up(self, names: int) -> None:
        machine = Machine(rules(min_devices=names + 2, rounds=4, root_rounds=0, quorum=1.0))
        machine(joined("a1"), joined("a2"), *(Joined(f"n{i}", profile()) for i in range(names)))
        machine.rules = msgspec.structs.replace(machine.rules, min_devices=2)
        for number in (1, 2, 3):
            machine.now += 1.0
            assert machine.state.round == number - 1
            deliver(machine, number, "a1", "a2")
            if machine.state.round < number:
                assert self.closes_at(machine) == 10.0
        assert (machine.state.round, machine.now) == (3, 12.0)

    def test_names_that_say_join_again_and_again_do_not_either(self) -> None:
        machine = Machine(rules(min_devices=2, rounds=4, root_rounds=0))
        machine(joined("a1"), joined("a2"), Joined("n1", profile()))
        machine(stored("a1", 1), stored("a2", 1))
        for machine.now in (1.0, 5.0, 9.0):
            machine(Joined("n1", profile()))
        machine(stored("a1", 2), stored("a2", 2))
        assert self.closes_at(machine) == 10.0

    def test_names_that_come_first_keep_nobody_out(self) -> None:
        """The first round is theirs alone, until others are there who could take part."""
        machine = Machine(rules(min_devices=2, root_rounds=0))
        machine(Joined("n1", profile()), Joined("n2", profile()))
        machine.now = 2.0
        machine(joined("a1"), joined("a2"))
        assert self.closes_at(machine) == 10.0
        assert [start.attempt for start in machine.sent("a1", RoundStart)] == [2]  # type: ignore[union-attr]

    def test_presence_without_an_update_makes_no_quorum(self) -> None:
        """Two of four devices deliver. The first round waits one deadline for the others, as it would for any device;
        the next ones wait twice as long as the two that deliver take."""
        machine = Machine(rules(min_devices=4, rounds=4, root_rounds=0, quorum=0.6, grace=4.0))
        machine(joined("a1"), joined("a2"), joined("x1"), joined("x2"))
        machine.now = 8.0
        deliver(machine, 1, "a1", "a2")
        assert self.closes_at(machine) == 100.0
        assert machine.state.round == 1
        assert [start.deadline for start in machine.sent("x1", RoundStart)] == [16.0]
        assert [start.deadline for start in machine.sent("a1", RoundStart)] == [100.0]
        machine.now = 103.0
        deliver(machine, 2, "a1", "a2")
        assert self.closes_at(machine) == 116.0
        machine.now = 117.0
        deliver(machine, 3, "a1", "a2")
        assert self.closes_at(machine) == 116.0 + 6.0, "twice three seconds"

    def test_whoever_has_delivered_once_is_waited_for(self) -> None:
        machine = Machine(rules(min_devices=4, rounds=4, root_rounds=0, quorum=0.6))
        machine(*(joined(name) for name in DEVICES))
        machine(*(stored(name, 1) for name in DEVICES))
        machine.now = 1.0
        machine(*(stored(name, 2) for name in ("a1", "a2")))
        assert machine.state.round == 1
        assert self.closes_at(machine) == 200.0, "a quorum is three of four, for which it is extended once"

    def test_a_newcomer_that_was_too_slow_counts_from_its_first_update_on(self) -> None:
        machine = Machine(rules(min_devices=2, rounds=9, root_rounds=0, grace=4.0))
        machine(joined("a1"), joined("a2"))
        machine.now = 3.0
        deliver(machine, 1, "a1", "a2")
        machine(joined("b1"))
        machine(stored("a1", 2), stored("a2", 2))
        (start,) = machine.sent("b1", RoundStart)
        assert isinstance(start, RoundStart)
        assert (start.round, start.deadline) == (3, 4.0)
        machine.now = 6.0
        machine(*(stored(name, 3) for name in ("a1", "a2", "b1")))
        assert [start.deadline for start in machine.sent("b1", RoundStart)] == [100.0]

    def test_a_round_without_any_update_waits_for_everybody(self) -> None:
        machine = Machine(rules(min_devices=2, root_rounds=0))
        machine(joined("a1"), joined("a2"))
        machine.now = 100.0
        machine(Tick())
        assert [start.deadline for start in machine.sent("a1", RoundStart)] == [100.0]
        machine.now = 150.0
        deliver(machine, 1, "a1")
        assert machine.state.round == 0
        deliver(machine, 1, "a2")
        assert machine.state.round == 1


class TestWhatIsSaidInSomebodysName:
    """On a broker without rules everybody may say that a device is gone."""

    def test_a_death_is_told_to_the_device_whose_word_undoes_it(self) -> None:
        for word in (Heard("b2"), Joined("b2", profile()), Seen("b2", True, 1), Heard("b2", offers=True)):
            machine = started()
            machine(Seen("b2", False, 2**31 - 1))
            assert [(m.code, m.about) for m in machine.sent("b2", Refused)] == [("PresenceLost", "presence")]  # type: ignore[union-attr]
            machine(Seen("b2", False, 2**31 - 1))
            assert machine.sent("b2") == [], "once"
            machine.now = 9.0
            machine(word)
            deliver(machine, 1, "a1", "a2", "b1")
            machine.now = 18.0
            machine(Tick())
            assert machine.state.round == 0, "it is waited for again"
            deliver(machine, 1, "b2")
            assert machine.state.round == 1

    def test_a_birth_after_a_forged_death_is_believed_and_so_is_the_next_true_death(self) -> None:
        machine = started()
        machine(Seen("b2", False, 2**31 - 1), Seen("b2", True, 1))
        assert machine.state.devices["b2"].until is None
        machine(Seen("b2", False, 1))
        assert machine.state.devices["b2"].until == 10.0

    def test_one_that_is_presumed_dead_and_offers_is_heard(self) -> None:
        machine = started()
        machine(Seen("b2", False, 1))
        deliver(machine, 1, "a1")
        machine.now = 50.0
        machine(Heard("b2", offers=True), Offered("b2", offer("b2", 1)))
        assert Fetch("b2", offer("b2", 1)) in machine.actions
        assert machine.state.devices["b2"].is_present(machine.now)
        assert not machine.state.devices["b2"].away

    def test_a_leave_that_the_device_contradicts_costs_it_no_round(self) -> None:
        for word in (Joined("b2", profile()), Heard("b2", offers=True)):
            machine = started()
            machine(Left("b2"))
            deliver(machine, 1, "a1", "a2", "b1")
            machine.now = 4.0
            machine(word)
            assert not machine.state.devices["b2"].left
            deliver(machine, 1, "b2")
            assert machine.sent("b2", RoundDone) == [RoundDone(round=1, accepted=True, updates=4)]
            assert [start.round for start in machine.sent("b2", RoundStart)] == [2]  # type: ignore[union-attr]

    def test_other_words_of_one_that_has_left_do_not_bring_it_back(self) -> None:
        machine = started()
        machine(Left("b2"), Heard("b2"), Seen("b2", True, 9))
        assert machine.state.devices["b2"].left
        assert not machine.state.devices["b2"].is_present(machine.now)

    def test_a_device_whose_clock_was_ahead_is_not_taken_for_dead_for_ever(self) -> None:
        machine = started()
        machine(Seen("b2", True, 2_000_000_000), Seen("b2", False, 2_000_000_000))
        machine(Joined("b2", profile(), Presence(online=True, epoch=3)))
        assert machine.state.devices["b2"].until is None
        machine(Seen("b2", False, 3))
        assert machine.state.devices["b2"].until is not None


def test_who_died_while_the_broker_was_away_is_waited_for_as_one_that_is_gone() -> None:
    """Its will was lost with the broker, and every round waited for it until the deadline."""
    machine = started(grace=10)
    machine(Left("b1"))
    deliver(machine, 1, "a1", "a2")
    before = machine.state.devices["b1"]
    machine(Reconnected(frozenset({"a1", "a2"})))
    assert machine.state.devices["b2"].until == machine.now + 10
    assert machine.state.devices["a1"].until is None
    assert machine.state.devices["b1"] == before
    machine.now += 10
    machine(Tick())
    assert machine.state.round == 1
    machine(Seen("b2", True, 1))
    assert machine.state.devices["b2"].until is None


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


class TestTheEnd:
    def finished(self) -> Machine:
        machine = started(rounds=2)
        for number in (1, 2):
            deliver(machine, number, *DEVICES)
        return machine

    def test_served_when_everybody_has_said_goodbye(self) -> None:
        machine = self.finished()
        assert not all_served(machine.rules, machine.state, machine.now)
        machine(*(Left(name) for name in DEVICES[:3]), Seen("b2", False, 1))
        assert not all_served(machine.rules, machine.state, machine.now)
        assert all_served(machine.rules, machine.state, machine.now + 10)

    def test_served_when_everybody_has_everything_though_nobody_says_goodbye(self) -> None:
        machine = self.finished()
        machine(*(Served(name) for name in DEVICES[:3]))
        assert not all_served(machine.rules, machine.state, machine.now)
        machine(Served("b2"))
        assert all_served(machine.rules, machine.state, machine.now)

    def test_who_says_join_again_is_waited_for_again(self) -> None:
        machine = self.finished()
        machine(*(Served(name) for name in DEVICES))
        machine(joined("b2", 2))  # its home was lost
        assert not all_served(machine.rules, machine.state, machine.now)
        machine(Served("b2"))
        assert all_served(machine.rules, machine.state, machine.now)

    def test_served_after_a_whole_deadline_at_the_latest(self) -> None:
        machine = self.finished()
        wake = next_wake(machine.rules, machine.state, machine.now)
        assert wake == machine.now + 100.0
        assert not all_served(machine.rules, machine.state, wake - 1)
        assert all_served(machine.rules, machine.state, wake)
        again = Machine(machine.rules, machine.state)
        again.now = 5000.0
        again(Restarted())
        assert not all_served(again.rules, again.state, 5001.0)
        assert all_served(again.rules, again.state, 5010.0), "nobody has shown himself"

    def test_a_newcomer_gets_the_adapters_of_the_nearest_cluster(self) -> None:
        machine = self.finished()
        machine(Joined("c9", profile()))
        (question,) = [action for action in machine.actions if isinstance(action, Place)]
        assert question.assignment == {"a1": 0, "a2": 0, "b1": 1, "b2": 1}
        machine(Placed("c9", 1))
        assert [message.cluster for message in machine.sent("c9", Finished)] == [1]
        machine(Joined("c9", profile()))
        assert [message.cluster for message in machine.sent("c9", Finished)] == [1]

    def test_nothing_can_be_offered_any_more(self) -> None:
        machine = self.finished()
        machine(Offered("a1", offer("a1", 2, variant=1)), Offered("a1", offer("a1", 3)))
        assert refusals(machine, "a1") == ["StaleUpdate", "StaleUpdate"]

    def test_more_adapters_than_a_message_holds_are_cut_after_the_own(self) -> None:
        clusters = {number: Lineage(manifest(f"{number}", "cluster")) for number in range(300)}
        machine = self.finished()
        machine.state = msgspec.structs.replace(machine.state, clusters=clusters)
        machine(Joined("b1", profile()))
        (message,) = machine.sent("b1", Finished)
        assert isinstance(message, Finished)
        assert decode(encode(message)) == message
        assert message.adapters[1] == clusters[1].start


class TestRestart:
    def restarted(self, machine: Machine) -> Machine:
        return Machine(machine.rules, saved_and_loaded(machine.state))

    def test_the_state_survives_msgpack(self) -> None:
        machine = started()
        deliver(machine, 1, *DEVICES)
        deliver(machine, 2, "a1")
        assert self.restarted(machine).state == machine.state

    def test_a_round_goes_on_with_a_fresh_deadline(self) -> None:
        machine = started()
        deliver(machine, 1, "a1", "a2", "b1")
        again = self.restarted(machine)
        again.now = 5000.0
        again(Restarted())
        assert again.state.round == 0
        again(Joined("b2", profile()))
        assert [start.deadline for start in again.sent("b2", RoundStart)] == [100.0]
        deliver(again, 1, "b2")
        assert again.sent("a1", RoundDone) == [RoundDone(round=1, accepted=True, updates=4)]

    def test_an_aggregation_that_was_cut_short_is_asked_for_again(self) -> None:
        given = rules(min_devices=1)
        machine = Machine(given)
        machine(Joined("a1", profile()))
        state, actions = step(given, machine.state, stored("a1", 1), 0.0)
        (question,) = [action for action in actions if isinstance(action, Aggregate)]
        state, actions = step(given, state, Restarted(), 0.0)
        assert actions == [question]
        state, _ = step(given, state, Aggregated(1, root=Lineage(manifest("r", "root"))), 0.0)
        assert state.round == 1
        late, actions = step(given, state, Aggregated(1, root=Lineage(manifest("other", "root"))), 0.0)
        assert (late, actions) == (state, [])

    def test_a_clustering_that_was_cut_short_is_asked_for_again(self) -> None:
        given = rules(min_devices=1)
        state, actions = step(given, State(), Joined("a1", profile()), 0.0)
        (question,) = [action for action in actions if isinstance(action, Cluster)]
        assert step(given, state, Restarted(), 0.0)[1] == [question]


class TestPace:
    """Proven devices set the time that a round waits for devices on trial."""

    def test_a_newcomer_that_delivers_late_does_not_set_it(self) -> None:
        machine = Machine(rules(min_devices=2, rounds=4, root_rounds=4, extensions=0))
        machine(joined("a1"), joined("a2"))
        machine.now += 12
        machine(stored("a1", 1), stored("a2", 1), joined("c1"))
        assert machine.state.pace == 12
        machine(Tick())
        current = machine.state.current
        assert current is not None
        if "c1" not in current.cohort:  # it came after the round was opened
            machine.now += 12
            machine(stored("a1", 2), stored("a2", 2))
            current = machine.state.current
            assert current is not None
        number, opened = current.number, current.opened
        assert current.probation == opened + 24
        machine.now = opened + 12
        machine(stored("a1", number), stored("a2", number))
        machine.now = opened + 23
        machine(stored("c1", number))
        assert machine.state.round == number
        assert machine.state.pace == 12, "before, 23: the next round would have waited twice as long for newcomers"

    def test_where_nobody_is_proven_all_do(self) -> None:
        machine = Machine(rules(min_devices=2))
        machine(joined("a1"), joined("a2"))
        machine.now += 5
        machine(stored("a1", 1))
        machine.now += 5
        machine(stored("a2", 1))
        assert machine.state.pace == 10


def test_the_last_member_to_leave_may_be_one_whose_update_was_refused() -> None:
    machine = Machine(rules(min_devices=2))
    machine(joined("a1"), joined("a2"))
    machine(Spoiled("a1", offer("a1", 1), "AdapterValueError", "NaN", True))
    machine(Left("a2", shut_out=True), Left("a1"))
    wake = next_wake(machine.rules, machine.state, machine.now)
    assert wake is not None
    assert wake <= machine.now + 5.0
    machine.now = wake
    machine(Tick())
    assert machine.state.phase == "gathering"


def test_an_event_of_one_device_looks_through_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """It scanned and copied the whole state: 3.7 ms with 10,000 devices. benchmarks.clustering measures it."""
    names = [f"d{number:03}" for number in range(300)]
    machine = Machine(rules(min_devices=300, rounds=9, late=1, grace=10.0))
    machine(*(joined(name) for name in names))
    machine(*(stored(name, 1) for name in names[:-1]))
    machine.now += 200
    machine(Tick(), *(Joined(name, profile()) for name in ("n1", "n2")))
    assert machine.state.round == 1
    assert machine.state.phase == "training"

    def scan(*_: object) -> None:
        raise AssertionError("looks through the devices")

    monkeypatch.setattr(Table, "__iter__", scan)
    monkeypatch.setattr(Round, "absent", property(scan))
    number, attempt, one, other = 2, machine.state.attempt, names[0], names[1]
    for event in (
        joined(one, 2), Seen(one, False, 2), Heard(one), Seen(one, True, 3), Left(other), Heard(other, offers=True),
        Offered(one, offer(one, number, attempt=attempt)), stored(one, number, attempt=attempt),
        stored(one, number, attempt=attempt), Offered(names[-1], offer(names[-1], 1)), stored("nobody", number),
        Spoiled(other, offer(other, number, attempt=attempt), "AdapterValueError", "NaN", True),
        Joined("n3", profile()), Served(one), Tick(), Forgotten("n3"),
    ):  # fmt: skip
        machine.now += 0.1
        machine(event)
        next_wake(machine.rules, machine.state, machine.now)
        all_served(machine.rules, machine.state, machine.now)
        replaceable(machine.rules, machine.state, machine.now, frozenset())
        awaited(machine.rules, machine.state, machine.now, named=False)
    assert machine.state.phase == "training"
    current = machine.state.current
    assert current is not None
    assert one in current.updates
    assert other in current.refused
    assert "n3" not in machine.state.devices
