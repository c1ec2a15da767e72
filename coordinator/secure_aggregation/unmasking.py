"""Unmasking: from the sum of masked vectors and the devices' shares to the sum of their vectors.

The masks of pairs that are both in the sum cancel. Left are the self masks of all that are in it, and the masks that
they share with sharers that are not. No I/O; the time is that of expanding the masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_sdk.secure_aggregation import (
    SHARE_BYTES,
    Advertisement,
    Parameters,
    Terms,
    Words,
    add_masks,
    graph,
    mask_private_key,
    pair_mask_key,
    public_of,
    restored,
    roster_hash,
    self_check,
    self_mask_key,
)


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """An unmasking to be done.

    Attributes:
        terms, roster, given, seed: the sum's terms, devices, parameters and seed of the graph.
        survivors, dropped: places of the devices in the sum, and of those that sent shares but no vector in time.
        self_checks: hash of each survivor's secret, by its place.
        answers: the shares that devices gave, by their places.
        uploads: hash of each survivor's masked vector, by its name.
    """

    terms: Terms
    roster: tuple[Advertisement, ...]
    given: Parameters
    seed: bytes
    survivors: frozenset[int]
    dropped: frozenset[int]
    self_checks: dict[int, bytes]
    answers: dict[int, bytes]
    uploads: dict[str, str]

    def __repr__(self) -> str:
        """Numbers alone, so that no log shows a share."""
        return f"Task({self.terms.numbers}, {len(self.survivors)} survivors, {len(self.dropped)} dropped)"


class Leftover(msgspec.Struct, frozen=True):
    """Masks that are left in a sum.

    Attributes:
        masks: key of each mask, and 1 or -1, to be given to `add_masks`.
        liars: names of devices whose shares do not belong to the secrets that they are of.
    """

    masks: list[tuple[bytes, int]]
    liars: frozenset[str]

    def __repr__(self) -> str:
        """The number of masks, so that no log shows a key."""
        return f"Leftover({len(self.masks)} masks)"


def leftover(task: Task) -> Leftover:
    """Restore the secrets, and derive the keys of the masks that are left.

    Raises:
        ShareInvalid: there are too few shares of a secret, or they do not give it.
    """
    edges = graph(len(task.roster), task.given.neighbours, task.seed)
    shares = _by_owner(task)
    roster = roster_hash(task.terms, task.given, task.roster)
    masks: list[tuple[bytes, int]] = []
    liars: set[str] = set()

    def restore(place: int, is_right: Callable[[bytes], bool]) -> bytes:
        holders = edges.holders(place)
        by_x = {holders.index(holder) + 1: share for holder, share in shares.get(place, {}).items()}
        secret, wrong = restored(by_x, task.given.threshold, is_right, task.roster[place].device)
        liars.update(task.roster[holders[x - 1]].device for x in wrong)
        return secret

    for place in sorted(task.survivors):
        seed = restore(place, _is_self_seed(task, place))
        masks.append((self_mask_key(task.terms, roster, task.roster[place].device, seed), -1))
    for place in sorted(task.dropped):
        seed = restore(place, _is_mask_seed(task, place))
        private = mask_private_key(task.terms, task.roster[place].device, seed)
        masks += _pair_masks(task, roster, place, private, edges.neighbours(place))
    return Leftover(masks, frozenset(liars))


def unmask(total: Words, left: Leftover) -> None:
    """Take the masks that are left off the sum of the survivors' masked vectors, in place."""
    add_masks(total, left.masks)


def _is_self_seed(task: Task, place: int) -> Callable[[bytes], bool]:
    return lambda seed: self_check(task.terms, task.roster[place].device, seed) == task.self_checks[place]


def _is_mask_seed(task: Task, place: int) -> Callable[[bytes], bool]:
    entry = task.roster[place]
    return lambda seed: public_of(mask_private_key(task.terms, entry.device, seed)) == entry.mask_key


def _pair_masks(
    task: Task, roster: bytes, dropped: int, private: X25519PrivateKey, neighbours: list[int]
) -> Iterator[tuple[bytes, int]]:
    """The masks that survivors share with a dropped device, with the signs that take them off."""
    for place in neighbours:
        if place in task.survivors:
            first, second = sorted((place, dropped))
            names = task.roster[first].device, task.roster[second].device
            key = pair_mask_key(task.terms, roster, private, task.roster[place].mask_key, *names)
            yield key, -1 if place < dropped else 1


def _by_owner(task: Task) -> Mapping[int, Mapping[int, bytes]]:
    """Owner of a secret -> holder -> share, by their places."""
    edges = graph(len(task.roster), task.given.neighbours, task.seed)
    found: dict[int, dict[int, bytes]] = {}
    for holder, shares in task.answers.items():
        for number, owner in enumerate(owners(edges.holders(holder), task.survivors | task.dropped)):
            found.setdefault(owner, {})[holder] = shares[number * SHARE_BYTES : (number + 1) * SHARE_BYTES]
    return found


def owners(around: list[int], sharers: frozenset[int]) -> list[int]:
    """The devices whose shares a device with these neighbours answers with, in the order of its answer."""
    return [place for place in around if place in sharers]
