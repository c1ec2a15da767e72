"""The saved form of an attempt: one part a device, and a head with everything else.

A device's message changes its part alone, and `touched` finds the parts to write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from coordinator.secure_aggregation.state import Phase, State
from edge_sdk.secure_aggregation import Advertisement, Parameters, Shares, Terms


class Head(msgspec.Struct, frozen=True, array_like=True):
    """An attempt without its devices; attributes as of `State`."""

    terms: Terms
    phase: Phase
    given: Parameters
    digest: bytes
    seed: bytes
    reason: str


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that an attempt has of one device.

    Attributes:
        advertisement: its advertisement; None before.
        listed: true if it is in the roster.
        number: its revealed number.
        shares: its encrypted shares; None before.
        sharing: true if it takes part in masking.
        ready: its signature of who takes part.
        upload: hash of its masked vector.
        surviving: true if it is in the sum.
        consent: its signature of the sum.
        answer: its answer to the unmask request.
    """

    advertisement: Advertisement | None = None
    listed: bool = False
    number: bytes = b""
    shares: Shares | None = None
    sharing: bool = False
    ready: bytes = b""
    upload: str = ""
    surviving: bool = False
    consent: bytes = b""
    answer: bytes = b""


def head_of(state: State) -> Head:
    """Return the head of an attempt."""
    return Head(state.terms, state.phase, state.given, state.digest, state.seed, state.reason)


def parts_of(state: State, names: Iterable[str] | None = None) -> dict[str, Part]:
    """Return the parts of these devices of the cohort, by name; of all with None."""
    places = {entry.device: place for place, entry in enumerate(state.roster)}
    wanted = state.cohort if names is None else state.cohort & set(names)
    return {name: _part(state, name, places.get(name)) for name in wanted}


def touched(before: State | None, after: State | None) -> set[str]:
    """Return the devices whose parts may differ between two states of attempts; None: there is none."""
    if before is after:
        return set()
    if before is None or after is None or _of_all(before) != _of_all(after):
        return {name for state in (before, after) if state is not None for name in state.cohort}
    names = _differing(before.advertised, after.advertised)
    for field in ("numbers", "shares", "ready", "uploads", "consents", "answers"):
        places = _differing(getattr(before, field), getattr(after, field))
        names |= {after.roster[place].device for place in places}
    return names


def restored(head: Head, parts: Mapping[str, Part]) -> State:
    """Return the attempt of a head and the parts of all of its devices."""
    listed = sorted(name for name, part in parts.items() if part.listed)
    advertised = {n: part.advertisement for n, part in sorted(parts.items()) if part.advertisement and not part.listed}
    at = [(place, parts[name]) for place, name in enumerate(listed)]
    roster = []
    for name in listed:
        entry = parts[name].advertisement
        assert entry is not None, "it is in the roster"
        roster.append(entry)
    return State(
        terms=head.terms,
        cohort=frozenset(parts),
        phase=head.phase,
        advertised=advertised,
        roster=tuple(roster),
        given=head.given,
        digest=head.digest,
        numbers={place: part.number for place, part in at if part.number},
        seed=head.seed,
        shares={place: part.shares for place, part in at if part.shares},
        sharers=frozenset(place for place, part in at if part.sharing),
        ready={place: part.ready for place, part in at if part.ready},
        uploads={place: part.upload for place, part in at if part.upload},
        survivors=frozenset(place for place, part in at if part.surviving),
        consents={place: part.consent for place, part in at if part.consent},
        answers={place: part.answer for place, part in at if part.answer},
        reason=head.reason,
    )


def _part(state: State, name: str, place: int | None) -> Part:
    if place is None:
        return Part(advertisement=state.advertised.get(name))
    return Part(
        advertisement=state.roster[place],
        listed=True,
        number=state.numbers.get(place, b""),
        shares=state.shares.get(place),
        sharing=place in state.sharers,
        ready=state.ready.get(place, b""),
        upload=state.uploads.get(place, ""),
        surviving=place in state.survivors,
        consent=state.consents.get(place, b""),
        answer=state.answers.get(place, b""),
    )


def _of_all(state: State) -> tuple[object, ...]:
    """Facts that concern the parts of many devices at once."""
    return state.terms, state.cohort, state.roster, state.sharers, state.survivors, state.phase in ("done", "abandoned")


def _differing(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> set[Any]:
    if before is after:
        return set()
    return {key for key in before.keys() | after.keys() if before.get(key) is not after.get(key)}
