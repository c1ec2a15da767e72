"""The stages of a drawing: the graphs of a bundle, each opened when it is first needed.

Without a memory limit, a stage stays open. With one, idle stages are closed, the least recently used first, until the
estimate for the open stages and the one to be run stays within the limit.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING

from edge_sdk.errors import (
    BundleCorrupt,
    BundleError,
    ConfigurationError,
    DeviceBusy,
    MemoryLimitTooSmall,
    OutOfMemory,
)
from edge_sdk.inference.bundle import INDEX, WEIGHTS, Bundle, Graph, graph_file
from edge_sdk.inference.runtime import memory
from edge_sdk.inference.runtime.backends import Choice, Session, Settings, choose
from edge_sdk.inference.runtime.backends.base import Array, Floats
from edge_sdk.inference.runtime.cache import cache_folder
from edge_sdk.inference.runtime.prepare import NotPrepared, pays
from edge_sdk.inference.runtime.settings import DrawingOptions, DrawingSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Seconds to wait for another thread's run to end; a run of a large UNet on a slow device takes minutes.
PATIENCE = 1800.0


@dataclass
class _Open:
    """An open stage; its session is None while a thread is opening it.

    running: number of threads that run (or open) it; resident: estimated bytes between runs; working: estimated bytes
    on top of that during runs; kept: the part of `resident` that is working memory its back end did not give back.
    """

    resident: int
    settings: Settings
    session: Session | None = None
    running: int = 0
    working: int = 0
    kept: int = 0


@dataclass(frozen=True)
class _Estimate:
    """Estimated bytes that a stage holds when it is open, and at the peak of opening it, with these settings."""

    resident: int
    opening: int
    settings: Settings


class Stages:
    """Runs the graphs of a bundle by name ("text_encoder", "unet", "vae_decoder", ...), from any thread.

    Args:
        bundle: the bundle with the graphs.
        options: the fields of `DrawingSettings`.

    Raises:
        BackendUnavailable: the back end does not work here.
        MemoryLimitTooSmall: the weights of the largest stage alone are above the limit.
        ValueError: no such back end, precision or size.
    """

    def __init__(self, bundle: Bundle, **options: Unpack[DrawingOptions]) -> None:
        given = DrawingSettings(**options)
        self._bundle = bundle
        self._limit = None if given.memory_limit is None else memory.parse_size(given.memory_limit)
        cache = self._cache(given.cache) if given.prepare else None
        self._settings = Settings(given.threads, given.precision, cache, frugal=self._limit is not None)
        self._choice = choose(given.backend, Settings(given.threads, given.precision))
        if given.precision != "auto" and not self._choice.backend.chooses_precision:
            raise ValueError(
                f"precision={given.precision!r} would have no effect: the back end {self._choice.backend.name!r} has "
                "no choice. Leave it out, or take openvino."
            )
        self._open: dict[str, _Open] = {}
        self._estimated: dict[str, _Estimate] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._check_limit()

    def _cache(self, cache: Path | str | None) -> Path | None:
        """Folder of prepared graphs; None for a user without a home folder, with a warning if preparing would pay."""
        try:
            return cache_folder(cache)
        except ConfigurationError as error:
            if cache is not None:
                raise
            if any(pays(graph) for graph in graphs(self._bundle).values()):
                warnings.warn(NotPrepared(self._bundle.folder, error), stacklevel=3)
            return None

    @property
    def choice(self) -> Choice:
        """The back end, and the reason for its choice."""
        return self._choice

    @property
    def opened(self) -> tuple[str, ...]:
        """Names of the stages that are open now, the least recently used first."""
        with self._changed:
            return tuple(self._open)

    def run(self, stage: str, outputs: Sequence[str], feed: Mapping[str, Array]) -> list[Floats]:
        """Run a stage and return the named outputs, in their order.

        Under a memory limit, this waits until the stages that other threads are running leave room for this one.

        Raises:
            BundleCorrupt: its graph cannot be opened, or is not as impasto.json describes it.
            MemoryLimitTooSmall: it needs more than the limit, even alone.
            OutOfMemory: the system did not give it enough memory.
            DeviceBusy: other threads ran the same stages for `PATIENCE` seconds.
            NoRoomToPrepare, PreparedElsewhere: see `edge_sdk.inference.runtime.prepare`.
            BundleError: the stages are closed.
        """
        with self._running(stage, memory.working_set(stage, feed)) as session:
            try:
                return session.run(outputs, feed)
            # onnxruntime's exceptions derive from Exception itself, one class for each status code.
            except Exception as error:
                raise self._failed(stage, error) from error

    def fits(self, stage: str, feed: Mapping[str, Array]) -> bool:
        """True if a stage is estimated to run on this input within the memory limit; always True without a limit.

        Raises:
            BundleCorrupt: the bundle has no such stage.
        """
        working = memory.working_set(stage, feed)
        with self._changed:
            return self._fits(self._estimate(stage, working), working)

    def close(self) -> None:
        """Close all stages once no thread runs them any more; afterwards nothing can be run.

        Raises:
            DeviceBusy: a thread ran one for `PATIENCE` seconds; the open stages are freed when that run ends.
        """
        with self._changed:
            self._closed = True
            if not self._changed.wait_for(lambda: not self._running_now(), PATIENCE):
                raise DeviceBusy(f"{', '.join(self._running_now())} did not finish within {PATIENCE:g} s.")
            self._open.clear()
            memory.give_back()

    def __enter__(self) -> Stages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _running(self, stage: str, working: int) -> Iterator[Session]:
        with self._changed:
            estimate = self._estimate(stage, working)
            open_, reserved = self._enter(stage, working, estimate)
        try:
            yield self._session(stage, open_)
        finally:
            with self._changed:
                open_.running -= 1
                open_.working -= reserved
                if self._choice.backend.keeps_work and working > open_.kept:
                    open_.resident += working - open_.kept
                    open_.kept = working
                self._changed.notify_all()

    def _enter(self, stage: str, working: int, estimate: _Estimate) -> tuple[_Open, int]:
        """Count a stage as running once there is room for it; return it and the bytes reserved on top of its weights.

        The caller holds the lock, which is released while this waits for other threads.
        """
        while True:
            if self._closed:
                raise BundleError("This generator was closed: load another one.")
            known = self._open.get(stage)
            if known is not None and known.settings != estimate.settings and not known.running:
                del self._open[stage]
                known = None
            reserved = working if known else max(working, estimate.opening - estimate.resident)
            busy = known is not None and (known.session is None or known.settings != estimate.settings)
            if not busy and self._makes_room(stage, estimate.resident + reserved, reserved > working):
                break
            if not self._changed.wait(PATIENCE):
                raise DeviceBusy(
                    f"The stage {stage} waited {PATIENCE:g} s for {', '.join(self._running_now())} and its memory: "
                    "draw less at once, or raise the memory limit."
                )
        # The most recently used one comes last.
        open_ = self._open.pop(stage, None) or _Open(estimate.resident, estimate.settings)
        self._open[stage] = open_
        open_.running += 1
        open_.working += reserved
        return open_, reserved

    def _makes_room(self, stage: str, bytes_: int, to_open: bool) -> bool:
        """Close idle stages until there is room; False if there is not enough while others are running.

        Raises:
            MemoryLimitTooSmall: there would not be enough room even for the stage alone.
        """
        if self._limit is None:
            return True
        if memory.PROCESS + bytes_ > self._limit:
            raise self._too_small(stage, memory.PROCESS + bytes_, to_open)
        while self._taken(besides=stage) + bytes_ > self._limit:
            resting = next((name for name, open_ in self._open.items() if not open_.running and name != stage), None)
            if resting is None:
                return False
            del self._open[resting]
            memory.give_back()
        return True

    def _taken(self, besides: str) -> int:
        """Bytes in use, without the weights of one stage."""
        weights = sum(open_.resident for name, open_ in self._open.items() if name != besides)
        return memory.PROCESS + weights + sum(open_.working for open_ in self._open.values())

    def _running_now(self) -> list[str]:
        return [stage for stage, open_ in self._open.items() if open_.running]

    def _session(self, stage: str, open_: _Open) -> Session:
        """The session of a stage, which the first thread that runs it opens."""
        if open_.session is None:
            try:
                open_.session = self._choice.backend.open(graph_of(self._bundle, stage), open_.settings)
                # Memory that was needed only for opening.
                memory.give_back()
            except BaseException:
                with self._changed:
                    del self._open[stage]
                raise
            with self._changed:
                if not open_.settings.lean:
                    # Opening may have prepared the graph.
                    self._estimated.pop(stage, None)
                self._changed.notify_all()
        return open_.session

    def _check_limit(self) -> None:
        """Raise MemoryLimitTooSmall if the limit is below the weights of a stage that every drawing runs."""
        for stage in ("text_encoder", "unet", "vae_decoder"):
            needed = memory.PROCESS + self._estimate(stage, 0).resident
            if self._limit is not None and needed > self._limit:
                raise self._too_small(stage, needed, False)

    def _estimate(self, stage: str, working: int) -> _Estimate:
        """The estimate for a stage. If it fits only with its weights left in their file, they stay there for good."""
        if self._limit is None:
            return _Estimate(0, 0, self._settings)
        if stage not in self._estimated:
            self._estimated[stage] = self._estimate_with(stage, self._settings)
        estimate = self._estimated[stage]
        if self._fits(estimate, working) or not self._choice.backend.can_be_lean(graph_of(self._bundle, stage)):
            return estimate
        lean = self._estimate_with(stage, replace(self._settings, lean=True))
        if self._fits(lean, working):
            self._estimated[stage] = estimate = lean
        return estimate

    def _estimate_with(self, stage: str, settings: Settings) -> _Estimate:
        backend, graph = self._choice.backend, graph_of(self._bundle, stage)
        return _Estimate(backend.resident_bytes(graph, settings), backend.opening_bytes(graph, settings), settings)

    def _fits(self, estimate: _Estimate, working: int) -> bool:
        needed = memory.PROCESS + max(estimate.opening, estimate.resident + working)
        return self._limit is None or needed <= self._limit

    def _failed(self, stage: str, error: Exception) -> Exception:
        """The named error for an exception that a back end raised while it ran a stage."""
        if memory.is_lack_of_it(error):
            return OutOfMemory(
                f"The stage {stage} did not get the memory that it needs: draw smaller or fewer pictures at once, "
                "decode in tiles, or set a memory limit, under which stages make room for each other."
            )
        graph = self._bundle.path(graph_file(stage))
        return BundleCorrupt(
            f"{graph} cannot be run with what {INDEX} says of it ({str(error)[:500]}): export or copy the bundle again."
        )

    def _too_small(self, stage: str, needed: int, to_open: bool) -> MemoryLimitTooSmall:
        assert self._limit is not None
        advice = "draw smaller or fewer pictures at once, or raise the limit"
        if to_open and self._settings.cache is not None:
            advice = (
                f"prepare it once without a limit (`impasto prepare {self._bundle.folder}`), which takes most of that"
            )
        return MemoryLimitTooSmall(
            f"The stage {stage} needs about {memory.show_size(needed)}, the memory limit is "
            f"{memory.show_size(self._limit)}: {advice}."
        )


def graphs(bundle: Bundle) -> dict[str, Graph]:
    """Map of name -> graph for every stage of a bundle."""
    return {stage: graph_of(bundle, stage) for stage in bundle.index.stages}


def graph_of(bundle: Bundle, stage: str) -> Graph:
    """The graph of a stage of a bundle."""
    file = PurePosixPath(graph_file(stage))
    names = {name: str(file.with_name(name)) for name in (file.name, WEIGHTS)}
    hashes = {name: bundle.index.files[path] for name, path in names.items() if path in bundle.index.files}
    return Graph(bundle.path(str(file)), hashes)
