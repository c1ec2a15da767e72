"""Seconds and bytes of a device that is helped, and of one whose helper fails: over a broker, in separate processes."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.assisted.device import Place, Wish
from benchmarks.assisted.faulty import FAULTS, Strike
from benchmarks.assisted.world import Federation, Helper, Traffic
from benchmarks.idle import processor_seconds
from benchmarks.network.world import Workers
from benchmarks.shared.control_groups import share_of_a_core
from benchmarks.shared.harness import Bar, Row, value_of
from edge_sdk.inference import Decoder, Generator
from edge_sdk.transport.embedded import EmbeddedBroker

EXACT = 1e-4
HALF = 0.5
LONGER = 1.03
_OPENING = 900.0
# A drawing that takes so many times as long as one alone hangs.
_HANGS = 5.0
_LEAST = 120.0
Drew: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A base model and the amounts of its measurement.

    Attributes:
        name: of its rows.
        bundle: makes its bundle, or finds it.
        size, decoder: of the pictures.
        share: of a core that the device gets.
        turns: times that every row is drawn.
        faults: times that every helper fails.
        kinds: the ways in which they fail.
        steps: of a drawing.
        rows: those of `wishes` that are drawn; empty for all.
    """

    name: str
    bundle: Callable[[], Path]
    size: int
    decoder: Decoder
    share: float
    turns: int
    faults: int
    kinds: Sequence[str] = tuple(FAULTS)
    steps: int = 20
    rows: Sequence[str] = ()


@dataclass
class _Device:
    """The device as a process."""

    workers: Workers
    place: Place
    patience: float = _OPENING
    hangs: int = 0

    def open(self) -> None:
        self.workers.start("benchmarks.assisted.device", asdict(self.place))
        self.workers.wait_for("ready", 1, _OPENING)

    def draw(self, wish: Wish, meanwhile: Strike = lambda over: None) -> Drew | None:
        """Draw, and do something meanwhile; None if it hangs, after which the process is a new one."""
        over = threading.Event()
        thread = threading.Thread(target=meanwhile, args=(over,))
        self.workers.say(wish.line())
        thread.start()
        try:
            return self.workers.wait_for("drew", 1, self.patience)[0]
        except RuntimeError:
            self.hangs += 1
            self.workers.close()
            self.workers = Workers(Path(self.place.home))
            self.open()
            return None
        finally:
            over.set()
            thread.join()


def cores() -> tuple[int, int]:
    """The cores of device and helper: different ones, if this process may use two."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    return usable[0], usable[-1]


def measured(model: Model, seed: int) -> list[Row]:
    """The rows of a model: costs, then faults."""
    folder = Path(tempfile.mkdtemp(prefix="impasto-assist-"))
    try:
        with (
            Generator.load(model.bundle(), verify=False, threads=1) as generator,
            EmbeddedBroker() as broker,
            share_of_a_core(model.share) as group,
        ):
            federation = Federation(folder, broker.url, generator)
            place = Place(
                bundle=str(generator.bundle.folder), home=str(federation.home), broker=broker.url, core=cores()[0],
                group="" if group is None else str(group), decoder=model.decoder, size=model.size,
            )  # fmt: skip
            with _opened(place) as device:
                rows = [*_costs(model, federation, device, seed), *_faults(model, federation, generator, device, seed)]
        return [{**row, "share": None if group is None else model.share} for row in rows]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _opened(place: Place) -> Iterator[_Device]:
    device = _Device(Workers(Path(place.home)), place)
    try:
        device.open()
        yield device
    finally:
        device.workers.close()


# --- helped ---------------------------------------------------------------------------------------------------------


@dataclass
class _Costs:
    """The measurements of one row."""

    drew: list[Drew] = field(default_factory=list)
    helper: list[float] = field(default_factory=list)
    up: list[int] = field(default_factory=list)
    down: list[int] = field(default_factory=list)


def wishes(steps: int) -> dict[str, Wish]:
    """Row -> its pictures."""
    half = steps // 2
    return {
        "all local": Wish(seed=0, steps=steps),
        f"alone, {steps - half} steps": Wish(seed=0, steps=steps - half),
        f"open to {half}": Wish(seed=0, steps=steps, form="open", by_helper=half),
        "open, auto": Wish(seed=0, steps=steps, form="open"),
        f"blank to {half}": Wish(seed=0, steps=steps, form="blank", by_helper=half),
        "blank, auto": Wish(seed=0, steps=steps, form="blank"),
        "all local, with a leaf": Wish(seed=0, steps=steps, leaf=True),
        f"open to {half}, with a leaf": Wish(seed=0, steps=steps, form="open", by_helper=half, leaf=True),
    }


def _costs(model: Model, federation: Federation, device: _Device, seed: int) -> list[Row]:
    """A row for each wish; they take turns."""
    rows = {name: wish for name, wish in wishes(model.steps).items() if name in model.rows or not model.rows}
    found = {name: _Costs() for name in rows}
    first = _Costs()
    with Helper(federation, "desk", cores()[1]) as helper, Traffic(federation) as traffic:
        # What the process does at its first picture alone: imports, keys.
        _draw(device, Wish(seed=seed, steps=model.steps, form="open"), helper, traffic, first)
        for turn in range(model.turns):
            for name, wish in rows.items():
                _draw(device, replace(wish, seed=seed + turn), helper, traffic, found[name])
    found["open, auto, first of its process"] = first
    return [_cost_row(model, name, costs) for name, costs in found.items()]


def _draw(device: _Device, wish: Wish, helper: Helper, traffic: Traffic, costs: _Costs) -> None:
    used, up, down = processor_seconds(helper.pid), traffic.up, traffic.down
    drew = device.draw(wish)
    if drew is None:
        raise RuntimeError(f"The device hung at {wish}.")
    if not wish.form:
        device.patience = max(_LEAST, _HANGS * drew["seconds"])
    costs.drew.append(drew)
    costs.helper.append(processor_seconds(helper.pid) - used)
    costs.up.append(traffic.up - up)
    costs.down.append(traffic.down - down)


def _cost_row(model: Model, name: str, costs: _Costs) -> Row:
    def median(what: str) -> float:
        return statistics.median(drew[what] for drew in costs.drew)

    differences = [drew["difference"] for drew in costs.drew if drew["difference"] is not None]
    return {
        "part": "cost", "model": model.name, "row": name, "draws": len(costs.drew), "picture_s": median("seconds"),
        "device_s": median("processor_s"), "helper_s": statistics.median(costs.helper),
        "by_helper": median("by_helper"), "dropped": median("dropped"),
        "up_bytes": statistics.median(costs.up), "down_bytes": statistics.median(costs.down),
        "difference": max(differences) if differences else None,
        "alone": "; ".join(sorted({drew["reason"] for drew in costs.drew if drew["reason"]})),
    }  # fmt: skip


# --- not helped -----------------------------------------------------------------------------------------------------


def _faults(model: Model, federation: Federation, generator: Generator, device: _Device, seed: int) -> list[Row]:
    """A row for each way in which helpers fail: each picture against one alone just before it."""
    pairs: dict[str, list[tuple[Drew, Drew]]] = {kind: [] for kind in model.kinds}
    hung = dict.fromkeys(model.kinds, 0)
    for turn in range(model.faults):
        for kind in model.kinds:
            with ExitStack() as stack:
                strike = stack.enter_context(FAULTS[kind](federation, generator, cores()[1]))
                alone = device.draw(Wish(seed=seed + turn, steps=model.steps))
                drew = device.draw(Wish(seed=seed + turn, steps=model.steps, form="open"), strike)
            if alone is None or drew is None:
                hung[kind] += 1
            else:
                pairs[kind].append((alone, drew))
    return [_fault_row(model, kind, pairs[kind], hung[kind]) for kind in model.kinds]


def _fault_row(model: Model, kind: str, pairs: Sequence[tuple[Drew, Drew]], hung: int) -> Row:
    return {
        "part": "fault", "model": model.name, "row": kind, "faults": len(pairs) + hung, "hung": hung,
        "alone_s": statistics.median(alone["seconds"] for alone, _ in pairs) if pairs else None,
        "longer": statistics.median(drew["seconds"] / alone["seconds"] for alone, drew in pairs) if pairs else None,
        "longer_processor": (
            statistics.median(drew["processor_s"] / alone["processor_s"] for alone, drew in pairs) if pairs else None
        ),
        "helped": sum(drew["by_helper"] > 0 for _, drew in pairs),
        "difference": max((drew["difference"] for _, drew in pairs), default=None),
        "reasons": "; ".join(sorted({drew["reason"] for _, drew in pairs})),
    }  # fmt: skip


def bars(rows: Sequence[Row]) -> list[Bar]:
    """The bars of each model: exactness, seconds, and failing helpers."""
    found = []
    for model in dict.fromkeys(row["model"] for row in rows if row.get("part") == "cost"):
        costs = {row["row"]: row for row in rows if row.get("part") == "cost" and row["model"] == model}
        failed = [row for row in rows if row.get("part") == "fault" and row["model"] == model]
        alone, auto = costs["all local"], costs["open, auto"]
        exact = [value_of(row, "difference") for name, row in costs.items() if _is_exact(str(name))]
        found += [
            Bar(f"{model}: largest difference of pixels, open to all local", max(exact), EXACT),
            Bar(
                f"{model}: seconds of a picture, open and auto to all local",
                value_of(auto, "picture_s") / value_of(alone, "picture_s"),
                HALF,
            ),
        ]
        measured = [row for row in failed if row["longer"] is not None]
        if measured:
            worst = max(measured, key=lambda row: value_of(row, "longer"))
            found += [
                Bar(f"{model}: seconds if a helper {worst['row']}, to all local", value_of(worst, "longer"), LONGER),
                Bar(
                    f"{model}: drawings that hung, of {sum(int(value_of(row, 'faults')) for row in failed)}",
                    sum(value_of(row, "hung") for row in failed),
                    0,
                ),
            ]
    return found


def _is_exact(row: str) -> bool:
    """True for a row whose helper knows all that the device draws with."""
    return row.startswith("open") and "leaf" not in row
