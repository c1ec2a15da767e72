"""A coordinator that lies about who has dropped out, differently to different devices: the attack, and what stops it.

Each device gets lists in which nothing is wrong by itself. The neighbours of a victim answer with shares of its self mask
if they are told that it survived, and with shares of its mask key if they are told that it was lost.
"""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.errors import ShareInvalid
from edge_sdk.secure_aggregation import (
    SHARE_BYTES,
    Policy,
    UnmaskAnswer,
    UnmaskRequest,
    Words,
    add_masks,
    bitmap,
    device,
    from_bytes,
    graph,
    mask_private_key,
    pair_mask_key,
    public_of,
    restored,
    roster_hash,
    self_check,
    self_mask_key,
)
from tests.secure_aggregation.world import World, terms

NAMES = [f"d{number:02}" for number in range(50)]
VICTIM = 20


def attacked(policy: Policy) -> tuple[World, Words]:
    """The world after the attack, and the victim's vector, as far as the shares give it.

    Raises:
        ShareInvalid: the shares do not give both secrets.
    """
    world = World(NAMES, terms(5, policy=policy))
    world.tamper = lambda _, message: None if isinstance(message, UnmaskRequest) else message
    world.begin()
    checks = {place: shares.self_check for place, shares in world.state.shares.items()}
    world.upload()
    state = world.state
    checks |= {place: shares.self_check for place, shares in state.shares.items()}
    edges, threshold = graph(50, state.given.neighbours, state.seed), state.given.threshold
    holders, everybody = edges.holders(VICTIM), set(range(50))
    of_self: dict[int, bytes] = {}
    of_key: dict[int, bytes] = {}
    for number, holder in enumerate(holders):
        lost = {VICTIM} if number % 2 and holder != VICTIM else set()
        request = UnmaskRequest(
            epoch=7, round=3, attempt=1, survivors=bitmap(everybody - lost, 50), dropped=bitmap(lost, 50)
        )
        (action,) = world.members[NAMES[holder]].feed(request)
        assert isinstance(action, device.Say)
        assert isinstance(action.message, UnmaskAnswer)
        at = edges.holders(holder).index(VICTIM) * SHARE_BYTES
        (of_key if lost else of_self)[number + 1] = action.message.shares[at : at + SHARE_BYTES]
    entry, given = state.roster[VICTIM], world.terms
    digest = roster_hash(given, state.given, state.roster)
    self_seed, _ = restored(
        of_self, threshold, lambda seed: self_check(given, entry.device, seed) == checks[VICTIM], entry.device
    )
    mask_seed, _ = restored(
        of_key,
        threshold,
        lambda seed: public_of(mask_private_key(given, entry.device, seed)) == entry.mask_key,
        entry.device,
    )
    private = mask_private_key(given, entry.device, mask_seed)
    found = from_bytes(world.members[entry.device].state.masked)
    masks = [(self_mask_key(given, digest, entry.device, self_seed), -1)]
    for place in edges.neighbours(VICTIM):
        other = state.roster[place]
        names = sorted((entry.device, other.device))
        key = pair_mask_key(given, digest, private, other.mask_key, names[0], names[1])
        masks.append((key, -1 if place > VICTIM else 1))
    add_masks(found, masks)
    return world, found


def test_parameters_for_a_curious_coordinator_do_not_stop_one_that_lies() -> None:
    world, found = attacked(Policy())
    assert np.array_equal(found, world.vectors[NAMES[VICTIM]])


def test_parameters_for_a_lying_coordinator_do() -> None:
    with pytest.raises(ShareInvalid, match="it takes 23"):
        attacked(Policy(active=True))
