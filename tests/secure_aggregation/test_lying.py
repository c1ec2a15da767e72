"""A coordinator that lies about who has dropped out, differently to different devices.

Each device gets lists in which nothing is wrong by itself. The neighbours of a victim would answer with shares of its
self mask if they are told that it survived, and with shares of its mask key if they are told that it was lost: with
both, its vector is in the open. What stops this is that no two quorums agree to different sums.
"""

from __future__ import annotations

import pytest

from edge_sdk.errors import UnmaskRefused
from edge_sdk.secure_aggregation import (
    SIGNATURE_BYTES,
    Consent,
    Consents,
    Policy,
    UnmaskRequest,
    bitmap,
    consent_content,
    device,
    graph,
    roster_hash,
)
from edge_sdk.wire import signed_by
from tests.secure_aggregation.hostile import kept_from_all
from tests.secure_aggregation.world import World, terms

NAMES = [f"d{number:02}" for number in range(50)]
VICTIM = 20
QUORUM = 28


def lied_to(told_of_a_loss: set[int]) -> tuple[World, dict[int, bytes]]:
    """A world in which these devices hear that the victim was lost, and all others that it was not; their consents."""
    world = World(NAMES, terms(5))
    requests = kept_from_all(world)
    world.begin()
    world.upload()
    edges = graph(50, world.state.given.neighbours, world.state.seed)
    found: dict[int, bytes] = {}
    for place, name in enumerate(NAMES):
        request = requests[name]
        if place in told_of_a_loss:
            ready = b"".join(
                request.ready[number * SIGNATURE_BYTES : (number + 1) * SIGNATURE_BYTES]
                for number, near in enumerate(edges.neighbours(place))
                if near != VICTIM
            )
            everybody = set(range(50)) - {VICTIM}
            request = UnmaskRequest(
                epoch=7, round=3, attempt=1, survivors=bitmap(everybody, 50), dropped=bitmap({VICTIM}, 50), ready=ready
            )
        (action,) = world.members[name].feed(request)
        assert isinstance(action, device.Say)
        assert isinstance(action.message, Consent)
        found[place] = action.message.signature
    return world, found


def shown(world: World, place: int, found: dict[int, bytes], who: list[int]) -> list[device.Action]:
    """The answer of a device to the consents of others."""
    consents = Consents(
        epoch=7,
        round=3,
        attempt=1,
        devices=bitmap(who, 50),
        signatures=b"".join(found[other] for other in sorted(who)),
    )
    return world.members[NAMES[place]].feed(consents)


@pytest.mark.parametrize("lied", [22, 25, 28])
def test_at_most_one_of_two_sums_is_helped_with(lied: int) -> None:
    everybody = [place for place in range(50) if place != VICTIM]
    told = set(everybody[:lied])
    world, found = lied_to(told)
    sides = {True: sorted(told), False: sorted(set(range(50)) - told)}
    answered = {True: 0, False: 0}
    for place in range(50):
        # The best that such a coordinator can show: consents to the same sum, filled up with others.
        mine, others = sides[place in told], sides[place not in told]
        actions = shown(world, place, found, (mine + others)[: max(QUORUM, len(mine))][:QUORUM])
        refused = isinstance(actions[0], device.Refuse) if actions else True
        assert refused == (len(mine) < QUORUM)
        answered[place in told] += not refused
    assert min(answered.values()) == 0
    assert all(type(error) is UnmaskRefused for member in world.members.values() for error in member.refused)


def test_the_consents_are_to_different_sums() -> None:
    """The devices' signatures tell the two sums apart."""
    world, found = lied_to({1, 2, 3})
    digest = roster_hash(world.terms, world.state.given, world.state.roster)
    whole = consent_content(world.terms, digest, bitmap(range(50), 50), bitmap((), 50))
    assert [p for p in range(50) if not signed_by(world.state.roster[p].identity, found[p], whole)] == [1, 2, 3]


def test_the_quorum_of_this_roster() -> None:
    assert Policy().quorum(50) == QUORUM
