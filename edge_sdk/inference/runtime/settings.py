"""The options of drawing, in one place: threads, back end, memory, preparing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from edge_sdk.inference.runtime.backends import PRECISIONS, DrawingPrecision


class DrawingOptions(TypedDict, total=False):
    """Keyword arguments of `Stages`, `Generator` and `Generator.load`: the fields of `DrawingSettings`."""

    threads: int | None
    backend: str
    memory_limit: int | str | None
    prepare: bool
    cache: Path | str | None
    precision: DrawingPrecision


@dataclass(frozen=True, kw_only=True)
class DrawingSettings:
    """Settings for running graphs.

    Attributes:
        threads: CPU threads; None takes the cores that the process may use.
        backend: a key of `BACKENDS`, or "auto" for the fastest that works here.
        memory_limit: bytes, or a text such as "1GB", that drawing may take: stages that would not fit together are
            closed in turn. Weights in mapped files do not count, as the system drops them when memory is short. None
            keeps every stage open.
        prepare: lay weights out for this processor once, on disk, where that pays; see `runtime.prepare`.
        cache: the folder for that; None takes $IMPASTO_CACHE or the user's cache folder.
        precision: "bf16" or "f32", for back ends that have a choice; "auto" takes bfloat16 where it is fast.

    Raises:
        ValueError: a number of threads below 1, no such precision, or a cache without preparing.
    """

    threads: int | None = None
    backend: str = "cpu"
    memory_limit: int | str | None = None
    prepare: bool = True
    cache: Path | str | None = None
    precision: DrawingPrecision = "auto"

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, not {self.threads}.")
        if self.precision not in PRECISIONS:
            raise ValueError(f"There is no precision {self.precision!r}; choose one of {', '.join(PRECISIONS)}.")
        if self.cache is not None and not self.prepare:
            raise ValueError("A cache is for prepared graphs, and prepare=False makes none: leave one of them out.")
