"""Clusters that devices choose alone: what the coordinator knows of them, which names no device's cluster."""

from __future__ import annotations

import msgspec


class Asking(msgspec.Struct, frozen=True):
    """A running clustering.

    Attributes:
        state: the state of the clustering by sums, encoded; the learning thread reads it.
        question: the question that it waits for, encoded.
        devices: the devices of its last sum, which alone may be asked again; empty: none has come about.
        silent: those that have not answered, and are not waited for until the next sum has come about.
    """

    state: bytes
    question: bytes
    devices: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()


class Counted(msgspec.Struct, frozen=True):
    """The devices of the round to come, counted by their clusters.

    Attributes:
        round: number of the round.
        devices: the devices that were counted; the coordinator knows who they are, not who is where.
        counts: number of devices in each cluster.
        slots: slot of each cluster in the sum of updates, none of which has fewer devices than the smallest cluster.
    """

    round: int
    devices: frozenset[str]
    counts: tuple[int, ...]
    slots: bytes

    @property
    def has_slots(self) -> bool:
        """True if the sum has more than one slot."""
        return max(self.slots) > 0

    @property
    def losses(self) -> int | None:
        """The most devices that the sum may lose, so that two are left in each slot; None: there is one slot."""
        sizes = [0] * (max(self.slots) + 1)
        for count, slot in zip(self.counts, self.slots, strict=True):
            sizes[slot] += count
        return None if len(sizes) == 1 else min(sizes) - 2


class Alone(msgspec.Struct, frozen=True, kw_only=True):
    """Clusters that devices choose alone.

    Attributes:
        clusterings: number of clusterings that were begun.
        asking: the running one; None if there is none.
        last: the devices of the last sum of a clustering that devices have agreed to; names of devices that were erased
            are replaced.
        centroids: centroids of the clusters, encoded as in a question; empty: there are none yet.
        counted: the devices of the round to come; None if they are to be counted.
    """

    clusterings: int = 0
    asking: Asking | None = None
    last: frozenset[str] = frozenset()
    centroids: bytes = b""
    counted: Counted | None = None

    def without(self, name: str) -> Alone:
        """Return the same without the name of a device that was erased; how many there were stays."""
        replaced = msgspec.structs.replace(self, counted=None)
        if name in self.last:
            # No device has such a name.
            nobody = f"?{sum(other.startswith('?') for other in self.last)}"
            replaced = msgspec.structs.replace(replaced, last=self.last - {name} | {nobody})
        if self.asking is not None:
            asking = msgspec.structs.replace(
                self.asking, devices=self.asking.devices - {name}, silent=self.asking.silent - {name}
            )
            replaced = msgspec.structs.replace(replaced, asking=asking)
        return replaced
