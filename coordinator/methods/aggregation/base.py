"""The base class of all aggregators and their result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from coordinator.methods import Idle, MethodSettings, undefined
from edge_sdk.adapter import MAX_RANK, Adapter, Share


class AggregatorSettings(MethodSettings, frozen=True, kw_only=True):
    """Settings of an aggregator: the keys of the table [aggregation] that all methods have.

    Attributes:
        max_weight: largest weight of a device, at least 1, in medians of its group's weights. A device states its own
            number of pictures, so that without a limit one alone could decide for all.
    """

    max_weight: Annotated[float, Meta(ge=1, le=2**31)] = 4.0


class MaskableSettings(AggregatorSettings, frozen=True, kw_only=True):
    """Settings of an aggregator whose updates may be summed under masks, so that the coordinator sees none of them.

    Attributes:
        masked: true if updates are summed under masks, see docs/masked-sums.md.
        colluding: share of the devices that may collude with the coordinator, in [0, 1).
        dropping: share of the devices that may be lost on the way, in [0, 1).
        largest_weight: number of pictures that make the largest weight of a device, in place of `max_weight`, which
            needs to see all weights.
        largest_change: largest change of a number by training that is not clipped; 0: 2 steps learning_rate, as Adam
            changes a number by little more than learning_rate in a step.
        patience: seconds that an exchange of a masked sum waits for a device.
    """

    masked: bool = False
    colluding: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    dropping: Annotated[float, Meta(ge=0, lt=1)] = 0.3
    largest_weight: Annotated[int, Meta(ge=1, le=2**16)] = 64
    largest_change: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    patience: Annotated[float, Meta(gt=0, le=1e6)] = 60.0

    def idle(self) -> Sequence[Idle]:
        if self.masked:
            return [(("max_weight",), "masked = true (largest_weight limits the weights)")]
        keys = ("colluding", "dropping", "largest_weight", "largest_change", "patience")
        return [(keys, "masked = false")]


class CarryingSettings(AggregatorSettings, frozen=True, kw_only=True):
    """Settings of an aggregator that carries, see `Aggregator.carries`.

    Attributes:
        carry: true if devices train on top of the part of the group's adapter beyond their rank; false: they start from
            the adapter truncated to their rank.
        server_rank: rank of the root and cluster adapters while they are trained; 0: the federation's `rank`.
    """

    carry: bool = True
    server_rank: Annotated[int, Meta(ge=0, le=MAX_RANK)] = 0

    def __post_init__(self) -> None:
        if self.server_rank and not self.carry:
            raise ValueError(
                f"server_rank = {self.server_rank} has no effect with carry = false, as no device trains more than its "
                "own rank: set carry = true, or leave server_rank out"
            )


@dataclass(frozen=True)
class Aggregate:
    """The aggregate of a group's updates, in float64.

    Attributes:
        start: the adapter that the devices start from in the next round; None: a fresh initialisation.
        folded: the adapter that stays frozen under all later training; None: nothing.
        retained_energy: share, in [0, 1], of the exact mean's squared norm that a truncation to the rank kept; None if
            the method truncates nothing or does not compute that mean.
        updates: number of updates.
    """

    start: Adapter | None
    folded: Adapter | None
    retained_energy: float | None
    updates: int


if TYPE_CHECKING:
    from typing_extensions import Self


class Aggregator(ABC):
    """Aggregates the adapters of one group in one round.

    Updates come one at a time and need not be in memory together. Partial results merge, so that a tree of aggregators
    gives the same answer as one (up to rounding, 1e-9 relative). Updates of a device that shares only some factors
    arrive completed from the adapter that it started from (`edge_sdk.adapter.share`).

    Args:
        rank: rank of the result's `start`.
        settings: the table [aggregation] of the federation file, of class `Settings`; None: its defaults.

    Attributes:
        Settings: class of the settings; a method with keys of its own has a subclass of `AggregatorSettings` here, or
            of `CarryingSettings` if it carries, of `MaskableSettings` if its updates may be summed under masks: then
            its result is the weighted mean of the factors that are trained, A, B or both, beside the other one.
        mixed_ranks: true if devices may train other ranks than `rank`; otherwise such devices are refused when they
            join.
        exact: true if start + folded is the weighted mean of the products, apart from a truncation stated by
            `retained_energy`.
        linear: true if, in every round, weighted sums of what devices send suffice, so that the method could work under
            masked sums.
        gauge_free: true if the result depends on the products B A of the updates alone, however they are factored.
        home_factor: true if devices keep a trained factor to themselves, and the result is theirs alone.
        folds: true if the result may have a `folded` part.
        carries: true if a device of smaller rank than the group's adapter trains on top of all of it, and the result
            keeps the part beyond its rank; otherwise the device starts from the adapter truncated to its rank.
    """

    Settings: ClassVar[type[AggregatorSettings]] = AggregatorSettings
    mixed_ranks: ClassVar[bool]
    exact: ClassVar[bool]
    linear: ClassVar[bool]
    gauge_free: ClassVar[bool] = False
    home_factor: ClassVar[bool] = False
    folds: ClassVar[bool] = False
    carries: ClassVar[bool] = False

    def __init__(self, rank: int, settings: AggregatorSettings | None = None) -> None:
        self.rank = rank
        self._updates = 0

    @classmethod
    def share(cls, turn: int) -> Share:
        """Return the factors that devices train and send in the group's round number `turn`, from 0."""
        return Share.BOTH

    def add(self, adapter: Adapter, weight: float, rest: Adapter | None = None) -> None:
        """Add one update.

        Args:
            adapter: the update.
            weight: its weight, positive: the number of pictures that it was trained on.
            rest: the part of the group's adapter beyond the device's rank, frozen during its training.

        Raises:
            ValueError: there is a `rest`, and this method does not carry.
        """
        if rest is not None and not self.carries:
            raise ValueError(f"{type(self).__name__} carries nothing: its devices start from their own rank alone.")
        self._add(adapter, weight, rest)
        self._updates += 1

    def merge(self, other: Self) -> None:
        """Add all updates of another aggregator of this method and rank."""
        self._merge(other)
        self._updates += other._updates

    def result(self) -> Aggregate:
        """Return the aggregate of all updates so far.

        Raises:
            ValueError: there was no update.
        """
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
    """Return the reason why a federation cannot use an object as an aggregator, or None if it can."""
    if not (isinstance(method, type) and issubclass(method, Aggregator)):
        return "is no subclass of coordinator.methods.aggregation.Aggregator"
    undone = undefined(method)
    undone += [name for name in ("mixed_ranks", "exact", "linear") if not hasattr(method, name)]
    if undone:
        return f"does not define {', '.join(undone)}"
    kind = CarryingSettings if method.carries else AggregatorSettings
    if not (isinstance(method.Settings, type) and issubclass(method.Settings, kind)):
        return f"has Settings that are no subclass of coordinator.methods.aggregation.{kind.__name__}"
    return None
