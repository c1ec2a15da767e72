"""The roster and its graph: who takes part, whose neighbour this device is, and its secrets, shared among these."""

from __future__ import annotations

from edge_sdk.errors import MessageInvalid, RosterInvalid, TooFewDevices
from edge_sdk.secure_aggregation import keys
from edge_sdk.secure_aggregation.device.state import Rules
from edge_sdk.secure_aggregation.device.turn import Turn
from edge_sdk.secure_aggregation.harary import ring_seed
from edge_sdk.secure_aggregation.messages import Advertisement, Numbers, Reveal, Roster, Shares
from edge_sdk.secure_aggregation.policy import FEWEST_DEVICES, Parameters
from edge_sdk.secure_aggregation.shares import split
from edge_sdk.secure_aggregation.terms import Terms


def take_roster(turn: Turn, roster: Roster) -> None:
    """Take in the roster; raises RosterInvalid or TooFewDevices."""
    terms, secrets = turn.keys()
    given = Parameters(roster.neighbours, roster.threshold)
    devices = tuple(roster.devices)
    own = keys.advertised(terms, turn.rules.device, turn.rules.identity, secrets)
    here = _check_roster(turn.rules, terms, given, devices, own)
    turn.set(roster=devices, given=given, here=here, digest=keys.roster_hash(terms, given, devices))
    if given.neighbours == len(devices) - 1:
        _share(turn)
    else:
        turn.move("revealed")
        turn.say(Reveal, number=secrets.number)


def take_numbers(turn: Turn, message: Numbers) -> None:
    """Take in everybody's number, which the ring's order is drawn from; raises RosterInvalid."""
    terms, _ = turn.keys()
    numbers = [message.numbers[at : at + 16] for at in range(0, len(message.numbers), 16)]
    if len(message.numbers) != 16 * len(turn.state.roster):
        raise MessageInvalid(f"{len(message.numbers)} bytes of numbers for {len(turn.state.roster)} devices.")
    for entry, number in zip(turn.state.roster, numbers, strict=True):
        if keys.commitment(terms, entry.device, number) != entry.commitment:
            raise RosterInvalid(
                f"The number of {entry.device!r} is not the one that it has committed to: the graph would not be "
                "random. This device sends no shares for it."
            )
    turn.set(seed=ring_seed(turn.state.digest, numbers))
    _share(turn)


def _share(turn: Turn) -> None:
    """Split the two secrets, and say a pair of shares to each neighbour."""
    terms, secrets = turn.keys()
    here, threshold = turn.state.here, turn.state.given.threshold
    holders = turn.graph().holders(here)
    of_self = split(secrets.self_seed, threshold, len(holders))
    of_key = split(secrets.mask_seed, threshold, len(holders))
    sealer = turn.sealer(secrets)
    sealed = b"".join(
        sealer.sealed(turn.state.roster[holder], first + second)
        for holder, first, second in zip(holders, of_self, of_key, strict=True)
        if holder != here
    )
    turn.set(held={here: of_self[holders.index(here)]})
    turn.move("shared")
    turn.say(Shares, self_check=keys.self_check(terms, turn.rules.device, secrets.self_seed), sealed=sealed)


def _check_roster(
    rules: Rules, terms: Terms, given: Parameters, devices: tuple[Advertisement, ...], own: Advertisement
) -> int:
    """Check a roster, and return this device's place in it.

    Raises:
        RosterInvalid, TooFewDevices: see the messages.
    """
    names = [entry.device for entry in devices]
    if len(devices) < FEWEST_DEVICES:
        raise TooFewDevices(f"The roster has {len(devices)} devices, a masked sum {FEWEST_DEVICES} at least.")
    if sorted(set(names)) != names:
        raise RosterInvalid("The roster names a device twice, or is not in the order of names: nothing is sent for it.")
    for kind in ("identity", "mask_key", "share_key", "commitment"):
        if len({getattr(entry, kind) for entry in devices}) != len(devices):
            raise RosterInvalid(f"Two devices of the roster have the same {kind}: nothing is sent for it.")
    if own not in devices:
        raise RosterInvalid("The roster does not have this device as it has advertised itself: nothing is sent for it.")
    for entry in devices:
        if rules.known.get(entry.device, entry.identity) != entry.identity:
            raise RosterInvalid(
                f"The roster shows another identity of {entry.device!r} than this device knows: nothing is sent for it."
            )
        if not keys.is_signed(terms, entry):
            raise RosterInvalid(
                f"The advertisement of {entry.device!r} is not signed for this step and attempt by the identity in it: "
                "it was forged, or that device was shown another step. Nothing is sent for it."
            )
    if not terms.policy.suffices(len(devices), given):
        raise RosterInvalid(
            f"{given.neighbours} neighbours and a threshold of {given.threshold} are not enough for {len(devices)} "
            "devices under the policy of this sum: nothing is sent for it."
        )
    return devices.index(own)
