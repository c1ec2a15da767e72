"""The interface of back ends: open a graph, and run it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from edge_sdk.inference.bundle import Graph

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float32]
DrawingPrecision: TypeAlias = Literal["auto", "bf16", "f32"]
PRECISIONS: tuple[DrawingPrecision, ...] = get_args(DrawingPrecision)


class Session(Protocol):
    """An opened graph. Several threads may run it at once."""

    def run(self, outputs: Sequence[str], feed: Mapping[str, Array]) -> list[Floats]:
        """Run the graph and return the named outputs, in their order. LoRA slots may be left out of `feed`."""


@dataclass(frozen=True)
class Settings:
    """Settings for opening graphs.

    threads: CPU threads; None takes the cores that the process may use.
    precision: for back ends that have a choice; "auto" takes bfloat16 where the processor has it.
    cache: folder of prepared weights; None opens graphs as they are.
    frugal: give working memory back after every run, where the back end can, at the cost of a twentieth of the speed.
    lean: hold as few weights in memory as possible, at the cost of some speed and the last bits of the results.
    strict: refuse to run any operation elsewhere, even one that the back end leaves to the CPU by design.
    """

    threads: int | None = None
    precision: DrawingPrecision = "auto"
    cache: Path | None = None
    frugal: bool = False
    lean: bool = False
    strict: bool = False


class Backend(ABC):
    """A way of running graphs. Stateless: a registry holds one instance of each."""

    name: ClassVar[str]
    title: ClassVar[str]
    # True if a session keeps its working memory between runs.
    keeps_work: ClassVar[bool] = False
    # True if it has a choice of precisions.
    chooses_precision: ClassVar[bool] = False

    @abstractmethod
    def missing(self) -> str | None:
        """Return the reason why this back end cannot be tried at all, and what to do about it; None if it can."""

    @abstractmethod
    def open(self, graph: Graph, settings: Settings) -> Session:
        """Open a graph.

        Raises:
            BundleCorrupt: the graph cannot be loaded.
            BackendUnavailable: the provider does not start, or would leave the work to another one.
        """

    @abstractmethod
    def resident_bytes(self, graph: Graph, settings: Settings) -> int:
        """Bytes of anonymous memory that the opened graph holds between runs, estimated from its files."""

    @abstractmethod
    def opening_bytes(self, graph: Graph, settings: Settings) -> int:
        """Bytes of anonymous memory that opening the graph takes at its peak."""

    def can_be_lean(self, graph: Graph) -> bool:
        """True if `Settings.lean` has an effect on this graph."""
        return False


# Factors and constants of the estimates were measured at the shapes of BK-SDM-Tiny (docs/devices.md). A graph with its
# weights inside model.onnx is held as a message while it is read.
def reading(graph: Graph) -> int:
    """Bytes that opening a graph on the CPU takes at its peak, prepared or not."""
    if graph.maps:
        return int(1.2 * graph.size)
    return int(min(3.0 * graph.size, 2.1 * graph.size + 150_000_000))
