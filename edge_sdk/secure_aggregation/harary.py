"""The graph of a masked sum: a Harary graph over a ring in random order. Complete if everybody is a neighbour.

The order must not be the coordinator's choice: who can try many orders finds one in which the devices that collude are
neighbours of a device of their choice. A hash of the public keys would not do, because the coordinator sees the keys of
honest devices before those that collude make theirs, and chooses who is in the roster; both can be tried a billion
times. So each device commits itself to a random number in its signed advertisement. The roster of all commitments is
fixed first, then the numbers are revealed, and the seed is the hash of the roster and all numbers. All of them: if one
is missing, the attempt ends, and there is nothing to choose. What is left to a coordinator is to end an attempt whose
order it dislikes, and to begin another with new keys: one try an attempt, which everybody sees.

    order    the places in the roster, sorted by SHA-256(seed || place), place as 4 bytes, little-endian
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import msgspec


class Graph(msgspec.Struct, frozen=True):
    """Neighbours of each device, by their places in the roster.

    Attributes:
        degree: number of neighbours of each device.
        ring: the places in the order of the ring.
        at: where in the ring each place is.
    """

    degree: int
    ring: tuple[int, ...]
    at: tuple[int, ...]

    @property
    def devices(self) -> int:
        """Number of devices."""
        return len(self.ring)

    def neighbours(self, place: int) -> list[int]:
        """The neighbours of a device, in the roster's order."""
        return [other for other in self.holders(place) if other != place]

    def holders(self, place: int) -> list[int]:
        """A device and its neighbours, in the roster's order: they hold shares of its secrets.

        The number of each in this list, from 1, is the x of its share.
        """
        if self.degree == self.devices - 1:
            return list(range(self.devices))
        here, reach = self.at[place], self.degree // 2
        return sorted(self.ring[(here + step) % self.devices] for step in range(-reach, reach + 1))


@lru_cache(maxsize=32)  # asked for again and again while a sum is made
def graph(devices: int, neighbours: int, seed: bytes = b"") -> Graph:
    """The graph of so many devices, each with so many neighbours; a complete one needs no seed."""
    if neighbours >= devices - 1:
        return Graph(devices - 1, tuple(range(devices)), tuple(range(devices)))
    assert neighbours % 2 == 0, "as many on either side"
    ring = sorted(range(devices), key=lambda place: hashlib.sha256(seed + place.to_bytes(4, "little")).digest())
    at = [0] * devices
    for number, place in enumerate(ring):
        at[place] = number
    return Graph(neighbours, tuple(ring), tuple(at))


def ring_seed(roster: bytes, numbers: Sequence[bytes]) -> bytes:
    """The seed of a roster with this hash, and the numbers of all of its devices in its order."""
    return hashlib.sha256(msgspec.msgpack.encode(["impasto/1 graph", roster, list(numbers)])).digest()
