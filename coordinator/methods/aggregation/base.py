"""What all aggregators have in common."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edge_sdk.adapter import Adapter, Share


@dataclass(frozen=True)
class Aggregate:
    """What a group's updates have become, in float64.

    Attributes:
        start: the adapter that the devices go on from in the next round; None: from a fresh initialisation.
        folded: what is laid under everything that is trained later, for good; None: nothing.
        retained_energy: the share of the exact mean's squared norm that a truncation to the rank kept; None where a
            method truncates nothing or does not compute that mean.
        updates: how many went in.
    """

    start: Adapter | None
    folded: Adapter | None
    retained_energy: float | None
    updates: int


if TYPE_CHECKING:
    from typing_extensions import Self


class Aggregator(ABC):
    """Aggregates the adapters of one group in one round.

    Updates come one at a time and need not be in memory together; partial results merge, so that a tree of aggregators
    gives the same answer as one (up to rounding, 1e-9 relative). Updates of a device that shares only some factors
    arrive completed from what it started from (`edge_sdk.adapter.share`).

    Attributes:
        mixed_ranks: whether devices may train other ranks than `rank`; if not, they are refused when they join.
        exact: whether start + folded is the weighted mean of the products, apart from a truncation that
            `retained_energy` states.
        linear: whether, in every round, weighted sums of what devices send suffice, so that it works under masked sums.
        gauge_free: whether the products B A of the updates alone decide what comes out, however they are factored.
        home_factor: whether devices keep a trained factor to themselves, and the result is theirs alone.
        folds: whether something may be folded under the adapter that devices go on from.
        carries: whether a device whose rank is smaller than that of the group's adapter trains on top of all of it, and
            the result keeps what lay beyond its rank; if not, the device starts from what is left at its rank.
    """

    mixed_ranks: ClassVar[bool]
    exact: ClassVar[bool]
    linear: ClassVar[bool]
    gauge_free: ClassVar[bool] = False
    home_factor: ClassVar[bool] = False
    folds: ClassVar[bool] = False
    carries: ClassVar[bool] = False

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self._updates = 0

    @classmethod
    def share(cls, turn: int) -> Share:
        """What devices train and send in the group's round number `turn`, from 0."""
        return Share.BOTH

    def add(self, adapter: Adapter, weight: float, rest: Adapter | None = None) -> None:
        """Take in one update; `weight` is positive (the number of pictures that it was trained on).

        rest: what lay frozen under it of the group's adapter, beyond the device's rank.
        """
        if rest is not None and not self.carries:
            raise ValueError(f"{type(self).__name__} carries nothing: its devices start from their own rank alone.")
        self._add(adapter, weight, rest)
        self._updates += 1

    def merge(self, other: Self) -> None:
        """Take in what another aggregator of this method and rank has taken in."""
        self._merge(other)
        self._updates += other._updates

    def result(self) -> Aggregate:
        """What has become of all updates so far; ValueError if there was none."""
        if not self._updates:
            raise ValueError("Nothing to aggregate: add an update first.")
        return self._result()

    @abstractmethod
    def _add(self, adapter: Adapter, weight: float, rest: Adapter | None) -> None: ...

    @abstractmethod
    def _merge(self, other: Self) -> None: ...

    @abstractmethod
    def _result(self) -> Aggregate: ...


def fault_of(method: object) -> str | None:
    """What keeps an object from being an aggregator that a federation can use; None if nothing does."""
    if not (isinstance(method, type) and issubclass(method, Aggregator)):
        return "is no subclass of coordinator.methods.aggregation.Aggregator"
    undone = sorted(method.__abstractmethods__) if inspect.isabstract(method) else []
    undone += [name for name in ("mixed_ranks", "exact", "linear") if not hasattr(method, name)]
    return f"does not define {', '.join(undone)}" if undone else None
