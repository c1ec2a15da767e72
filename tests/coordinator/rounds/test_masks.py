"""Masked sums in the coordinator's round machine: who is asked, what is refused by name, and how a round ends."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from coordinator.rounds import (
    Aggregate,
    Aggregated,
    Failed,
    Left,
    Lost,
    Offered,
    Report,
    Restarted,
    Said,
    Tick,
)
from coordinator.rounds import decisions as decided
from coordinator.rounds.decisions import sums
from edge_sdk.secure_aggregation import (
    RANDOM_BYTES,
    Advertise,
    Advertisement,
    Consent,
    FromDevice,
    Ready,
    Roster,
    Shares,
    UnmaskAnswer,
    device,
    encode,
    terms_of,
)
from edge_sdk.wire import Manifest, Refused, RoundStart, SignedSum
from edge_sdk.wire import messages as wire
from tests.coordinator.federations import Machine, joined, saved_and_loaded
from tests.coordinator.summing import FOUR, MASKING, WORDS, Members, offer, opened, stopped_at


def named(actions: list[Any], event: str) -> list[dict[str, Any]]:
    return [action.values for action in actions if isinstance(action, Report) and action.event == event]


def codes(machine: Machine, name: str) -> list[str]:
    return [refused.code for refused in machine.sent(name, Refused)]  # type: ignore[attr-defined]


def test_the_step_states_the_terms_and_the_start_of_the_coordinator() -> None:
    machine, _ = opened(*FOUR)
    (start,) = machine.sent("a1", RoundStart)
    assert isinstance(start, RoundStart)
    assert start.masking == replace(MASKING, epoch=7)
    assert machine.state.current is not None
    (masked,) = machine.state.current.sums.values()
    assert masked.terms == terms_of("tastes", start, WORDS)
    assert masked.cohort == set(FOUR)


def test_a_round_under_masks() -> None:
    machine, members = opened(*FOUR)
    members.train()
    assert machine.state.round == 1
    assert all(known.proven for known in machine.state.devices.values())
    assert all(known.trace and known.trace.update == "" for known in machine.state.devices.values())
    assert machine.state.blobs() == {machine.state.root.start.sha256} - {None}  # type: ignore[union-attr]


def test_clusters_have_sums_of_their_own_and_a_small_one_is_asked_nothing() -> None:
    names = ("a1", "a2", "a3", "b1", "b2")
    machine, members = opened(*names, root_rounds=0)
    assert machine.state.current is not None
    assert {name: member.sum for name, member in machine.state.current.cohort.items()} == dict.fromkeys(names[:3], 0)
    (small,) = named(machine.actions, "sum_abandoned")
    assert (small["cluster"], small["devices"], small["needed"], small["code"]) == (1, 2, 3, "TooFewDevices")
    assert "nothing is asked of them" in small["reason"]
    assert machine.sent("b1", RoundStart) == []
    members.train("a1", "a2", "a3")
    assert machine.state.round == 1


def test_without_a_cluster_that_is_large_enough_no_round_is_opened_for_a_while() -> None:
    machine, _ = opened("a1", "a2", "b1", "b2", root_rounds=0)
    assert (machine.state.phase, machine.state.resting) == ("gathering", 10.0)
    assert decided.next_wake(machine.rules, machine.state, machine.now) == 10.0
    assert len(named(machine.actions, "sum_abandoned")) == 2
    machine(joined("a3"))
    assert machine.state.phase == "gathering"
    machine.now = 10.0
    machine(Tick())
    assert machine.state.phase == "training"


def test_a_large_cluster_is_several_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "LARGEST_SUM", 4)
    names = tuple(f"a{number}" for number in range(9))
    machine, members = opened(*names)
    assert machine.state.current is not None
    assert sorted(len(masked.cohort) for masked in machine.state.current.sums.values()) == [3, 3, 3]
    assert machine.state == saved_and_loaded(machine.state)
    members.train()
    assert machine.state.round == 1


def test_the_largest_roster_fits_into_a_message() -> None:
    device_of = "x" * 60 + "{:04}"
    entries = [
        {"device": device_of.format(number), "identity": bytes(32), "mask_key": bytes(32), "share_key": bytes(32)}
        for number in range(sums.LARGEST_SUM)
    ]
    devices = [Advertisement(**entry, commitment=bytes(32), signature=bytes(64)) for entry in entries]  # type: ignore[arg-type]
    numbers = {"epoch": 2**53 - 1, "round": 2**31 - 1, "attempt": 2**31 - 1}
    roster = Roster(**numbers, neighbours=399, threshold=201, devices=devices)
    signed = SignedSum(epoch=2**53 - 1, content=encode(roster), signature=bytes(64))
    assert len(wire.encode(signed)) < wire.MAX_MESSAGE - 16 * 1024


def test_who_is_silent_after_the_roster_is_not_waited_for_longer_than_the_patience() -> None:
    machine, members = stopped_at(Roster)
    assert machine.state.current is not None
    (masked,) = machine.state.current.sums.values()
    assert masked.phase == "sharing"
    assert decided.next_wake(machine.rules, machine.state, machine.now) == 10.0, "asked again"
    members.silent, members.deaf_to, machine.now = {"b2"}, None, 10.0
    members.hear(machine(Tick()))
    assert machine.state.round == 0
    machine.now = 30.0
    members.hear(machine(Tick()))
    assert machine.state.round == 1, "three of four are enough"
    assert not machine.state.devices["b2"].proven


def test_too_many_losses_are_told_and_the_round_is_opened_anew() -> None:
    machine, members = opened(*FOUR)
    members.silent = {"b1", "b2"}
    members.deaf_to = Roster
    members.train()
    members.deaf_to, machine.now = None, 30.0
    members.hear(machine(Tick()))
    (abandoned,) = named(machine.actions, "sum_abandoned")
    assert (abandoned["devices"], abandoned["needed"], abandoned["code"]) == (4, 3, "TooFewDevices")
    assert named(machine.actions, "round_abandoned")
    assert (machine.state.phase, machine.state.round, machine.state.resting) == ("gathering", 0, 40.0)
    machine.now, members.silent = 40.0, set()
    machine(Tick())
    members.train()
    assert machine.state.round == 1


def test_nobody_waits_for_the_devices_of_an_abandoned_sum() -> None:
    """They are online, and nothing can come of them in this round: the other cluster closes without them."""
    names = ("a1", "a2", "a3", "b1", "b2", "b3", "b4")
    machine, members = opened(*names, root_rounds=0)
    members.deaf_to, members.silent = Roster, {"a1"}
    members.train("a1", "a2", "a3")
    machine.now = 30.0
    machine(Tick())
    assert [told["cluster"] for told in named(machine.actions, "sum_abandoned")] == [0]
    assert machine.state == saved_and_loaded(machine.state)
    found = decided.awaited(machine.rules, machine.state, machine.now)
    assert found is not None
    assert (found.what, found.names) == ("updates", ("b1", "b2", "b3", "b4"))
    members.deaf_to = None
    members.train("b1", "b2", "b3")
    machine(Left("b4"))
    machine.now = 36.0
    members.hear(machine(Tick()))
    assert machine.state.round == 1, "long before the deadline"
    proven = {name for name, known in machine.state.devices.items() if known.proven}
    assert proven == {"b1", "b2", "b3"}


def test_a_sum_that_fails_after_the_consents_uses_up_its_round() -> None:
    """Its devices may have helped already: with new company they would show single updates."""
    machine, members = opened(*FOUR)
    members.lost = UnmaskAnswer
    members.train()
    assert machine.state.current is not None
    assert [masked.phase for masked in machine.state.current.sums.values()] == ["unmasking"]
    machine.now = 30.0
    machine(Tick())
    assert named(machine.actions, "round_failed")
    assert machine.state.round == 1


@pytest.mark.parametrize("what", ["restart", "file"])
def test_a_restart_goes_on_unless_the_file_asks_for_other_work(what: str) -> None:
    machine, members = stopped_at(Roster)
    machine.state = saved_and_loaded(machine.state)
    machine.rules = replace(machine.rules, epoch=8, steps=99 if what == "file" else machine.rules.steps)
    members.deaf_to = None
    members.hear(machine(Restarted()))
    if what == "restart":
        assert machine.state.round == 1
        return
    assert "was changed" in named(machine.actions, "round_abandoned")[0]["reason"]
    machine.now = 10.0
    machine(*(joined(name) for name in FOUR))
    members.train()
    assert machine.state.round == 1


def test_what_does_not_belong_to_a_sum_is_refused_by_name_and_changes_nothing() -> None:
    machine, members = opened(*FOUR)
    other = Members(machine, *FOUR)
    start = decided.round_start(machine.rules, machine.state, "a1", 0.0)
    terms = terms_of("tastes", start, WORDS)

    def said(name: str, begun: str, given: object) -> Advertise:
        _, actions = device.step(other.rules(begun), device.State(), device.Begin(given, bytes(RANDOM_BYTES)))  # type: ignore[arg-type]
        (say,) = actions
        assert isinstance(say, device.Say)
        assert isinstance(say.message, Advertise)
        return say.message

    before = machine.state
    numbers = {"epoch": 7, "round": 1, "attempt": 1}
    cases: list[tuple[FromDevice, str]] = [
        (said("a1", "a2", terms), "RosterInvalid"),
        (said("a1", "a1", replace(terms, epoch=6)), "AttemptMismatch"),
        (said("a1", "a1", replace(terms, attempt=2)), "AttemptMismatch"),
        (replace(said("a1", "a1", replace(terms, step=bytes(32))), **numbers), "SignatureInvalid"),
        (Ready(**numbers, signature=bytes(64)), "AttemptMismatch"),
        (Shares(**numbers, self_check=bytes(32), sealed=b""), "AttemptMismatch"),
    ]
    for message, code in cases:
        machine(Said("a1", message))
        assert codes(machine, "a1") == [code]
        assert machine.state == before
    machine(Said("stranger", cases[0][0]))
    assert codes(machine, "stranger") == ["AttemptMismatch"]
    assert machine.state == before
    members.train()
    assert machine.state.round == 1


def test_a_malformed_share_is_refused_and_the_sum_goes_on() -> None:
    machine, members = stopped_at(Roster)
    assert machine.state.current is not None
    machine(Said("a1", Shares(epoch=7, round=1, attempt=1, self_check=bytes(32), sealed=bytes(5))))
    assert codes(machine, "a1") == ["MessageInvalid"]
    members.deaf_to, machine.now = None, 10.0
    members.hear(machine(Tick()))
    assert machine.state.round == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [({"size": 4 * WORDS + 4}, "OfferInvalid"), ({"role": "root"}, "OfferInvalid"), ({}, "NotInSum")],
)
def test_updates_are_not_taken_by_themselves(change: dict[str, Any], code: str) -> None:
    """Neither a plain update, nor a vector before the sum wants one."""
    machine, _ = opened(*FOUR)
    made = Manifest(role="update", name="x", sha256="ab" * 32, size=4 * WORDS, chunk_size=1024)
    offered = offer(1, 1, replace(made, **change))
    machine(Offered("a1", offered))
    assert codes(machine, "a1") == [code]
    assert not decided.wants(machine.rules, machine.state, "a1", offered)


def test_a_lost_vector_ends_its_round() -> None:
    machine, members = opened(*FOUR)
    members.lost = Consent
    members.train()
    assert machine.state.current is not None
    (masked,) = machine.state.current.sums.values()
    assert (masked.phase, len(masked.uploads)) == ("consenting", 4)
    assert set(masked.uploads.values()) <= machine.state.blobs()
    machine(Lost(frozenset([masked.uploads[0]])))
    assert named(machine.actions, "round_failed")
    assert (machine.state.round, machine.state.current) == (1, None)


def test_a_device_that_leaves_is_not_waited_for() -> None:
    machine, members = opened(*FOUR)
    members.silent = {"b2"}
    members.train()
    machine(Left("b2"))
    machine.now = 5.0
    members.hear(machine(Tick()))
    assert machine.state.round == 1
    assert not machine.state.devices["b2"].proven


def test_sums_that_cannot_be_unmasked_fail_the_round_or_their_cluster_alone() -> None:
    machine, members = opened(*FOUR, root_rounds=3)
    machine.answers = False
    members.train()
    assert machine.state.phase == "aggregating"
    (asked,) = [action for action in machine.actions if isinstance(action, Aggregate)]
    assert asked.round.summed == dict.fromkeys(FOUR, 0)
    before = machine.state
    machine(Failed(1, "MasksLeft", "masks are left"))
    assert machine.state.round == 1
    assert not any(known.proven for known in machine.state.devices.values())
    machine.state = before
    machine(Aggregated(1, failed={0: "MasksLeft: masks are left"}))
    (abandoned,) = named(machine.actions, "sum_abandoned")
    assert (abandoned["code"], abandoned["devices"]) == ("MasksLeft", 4)
    assert not any(known.proven for known in machine.state.devices.values())
