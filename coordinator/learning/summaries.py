"""Summaries of updates: all that a group is compared by before it is averaged, so that each update is read once.

A summary is made when an update is checked on its arrival, because it is decoded then anyway. After a restart it is
made when the round is aggregated.

Memory, for n updates of a group: at most `HELD` bytes of updates, n summaries (16 KB with a filter, and 8 bytes a
layer), and a few matrices (n, n) of the filter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from coordinator import rounds
from coordinator.learning.updates import Updates
from coordinator.methods.robust import Core, Cores, Scales, products_of_changes, products_of_cores, scales, usual
from edge_sdk.adapter import Adapter, Share

HELD = 64 << 20
"""Bytes of factors of a group's updates that may be in memory together. A group within it is compared exactly."""
# Summaries that may be kept: of updates that were checked and never aggregated, the oldest are dropped.
_MOST = 20_000


@dataclass(frozen=True)
class Summary:
    """Summary of an update.

    Attributes:
        scales: scale of A by layer, in the order of names, float64.
        core: core of the change by training; None if no filter asks for it.
        size: bytes of the update's factors.
    """

    scales: npt.NDArray[np.float64]
    core: Core | None
    size: int


class Group:
    """A group's updates in one aggregation, each read from its blob once, or twice if its summary was lost.

    Args:
        updates: the updates, as they were counted.
        read: reads the blob of an update.
        start: returns the start of a member.
        summary: returns the kept summary of an update; None if there is none.
        summarise: makes a summary.
    """

    def __init__(
        self,
        updates: Sequence[rounds.Update],
        read: Callable[[rounds.Update], Adapter],
        start: Callable[[rounds.Member], Adapter],
        summary: Callable[[rounds.Update], Summary | None],
        summarise: Callable[[rounds.Member, Adapter], Summary],
    ) -> None:
        self._updates = updates
        self._read = read
        self._start = start
        self._held: dict[int, Adapter] = {}
        self._summaries: list[Summary] = []
        room = HELD
        for i, update in enumerate(updates):
            known = summary(update)
            if known is None:
                adapter = read(update)
                known = summarise(update.member, adapter)
                if known.size <= room:
                    self._held[i] = adapter
                    room -= known.size
            self._summaries.append(known)

    def scales(self) -> Scales:
        """Return the group's usual scale of A, by layer."""
        start = self._start(self._updates[0].member)
        names = sorted(start.layers)
        return usual(start, [dict(zip(names, summary.scales.tolist(), strict=True)) for summary in self._summaries])

    def products(self) -> npt.NDArray[np.float64]:
        """Return the inner products of the changes (n, n): exact within `HELD`, otherwise from cores."""
        members = [update.member for update in self._updates]
        if sum(summary.size for summary in self._summaries) <= HELD:
            adapters = [self._hold(i) for i in range(len(self._updates))]
            return products_of_changes(adapters, [self._start(member) for member in members])
        cores = [summary.core for summary in self._summaries if summary.core is not None]
        assert len(cores) == len(members), "there is a filter"
        whole = all(member.share is not Share.A_ONLY for member in members)  # else the norm is that of A alone
        return products_of_cores(cores, [update.norm for update in self._updates] if whole else None)

    def take(self, i: int) -> Adapter:
        """Return an update, to be used once."""
        held = self._held.pop(i, None)
        return self._read(self._updates[i]) if held is None else held

    def _hold(self, i: int) -> Adapter:
        if i not in self._held:
            self._held[i] = self._read(self._updates[i])
        return self._held[i]


class Summaries:
    """Summaries of a federation's updates. Thread-safe.

    Args:
        updates: reads updates and their starts.
        cores: makes cores; None if no filter asks for them.
    """

    def __init__(self, updates: Updates, cores: Cores | None) -> None:
        self._updates = updates
        self._cores = cores
        self._core_of_start = lru_cache(maxsize=32)(self._made_of_start)
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, rounds.Member], Summary] = {}

    def note(self, sha256: str, member: rounds.Member, update: Adapter) -> None:
        """Make and keep the summary of an update that has just been checked."""
        made = self._made(member, update)
        with self._lock:
            self._kept[sha256, member] = made
            if len(self._kept) > _MOST:
                del self._kept[next(iter(self._kept))]

    def clear(self) -> None:
        """Drop all summaries, once a round is aggregated; one that is needed after all is made again."""
        with self._lock:
            self._kept.clear()

    def group(self, updates: Sequence[rounds.Update]) -> Group:
        """Return a group of counted updates."""
        return Group(updates, self._updates.read, self._updates.start, self._of, self._made)

    def _of(self, update: rounds.Update) -> Summary | None:
        with self._lock:
            return self._kept.get((update.manifest.sha256, update.member))

    def _made(self, member: rounds.Member, update: Adapter) -> Summary:
        core = None
        if self._cores is not None:
            core = (self._cores(update) - self._core_of_start(member)).astype(np.float32)
        of_layers = scales(update)
        size = sum(factors.a.nbytes + factors.b.nbytes for factors in update.layers.values())
        return Summary(np.array([of_layers[name] for name in sorted(of_layers)]), core, size)

    def _made_of_start(self, member: rounds.Member) -> npt.NDArray[np.float64]:
        assert self._cores is not None, "there is a filter"
        return self._cores(self._updates.start(member))
