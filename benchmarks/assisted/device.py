"""A device that draws: python -m benchmarks.assisted.device SETTINGS

It opens everything and draws once, then takes its share of a core, and answers each line of its input, a `Wish`, with
a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from benchmarks.shared.control_groups import enter
from edge_sdk.device import Assist, Assistance, Device, Home, draw_assisted
from edge_sdk.inference import Decoder, Order
from edge_sdk.wire import Form

PROMPT = "a red fox"
CLUSTER, LEAF = {"cluster": 1.0}, {"cluster": 1.0, "leaf": 1.0}


@dataclass(frozen=True, kw_only=True)
class Place:
    """A device's files, its broker and its share of the machine.

    Attributes:
        bundle, home, broker: as for `Device` and `Assist`.
        core: the core that it is bound to.
        group: the control group of its share; empty if it has none.
        decoder, size: as for `Generator.generate`.
    """

    bundle: str
    home: str
    broker: str
    core: int
    group: str
    decoder: Decoder
    size: int


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A picture. form: empty to draw alone; by_helper: steps to ask for; leaf: True to draw with the leaf, too."""

    seed: int
    steps: int
    form: Form | Literal[""] = ""
    by_helper: int | Literal["auto"] = "auto"
    leaf: bool = False

    def line(self) -> str:
        """The line for the device."""
        return json.dumps(asdict(self))


@dataclass
class _Painter:
    """The device's drawing, and its pictures that were drawn alone."""

    place: Place
    device: Device

    def __post_init__(self) -> None:
        self._alone: dict[tuple[int, int, bool], npt.NDArray[np.float32]] = {}

    def draw(self, wish: Wish) -> dict[str, float | int | str | None]:
        """Draw, and tell seconds, processor seconds, who drew what, and the distance from the same picture alone."""
        weights = LEAF if wish.leaf else CLUSTER
        order = Order(
            prompt=PROMPT, seed=wish.seed, steps=wish.steps, guidance=5.0, scheduler="dpm++", hybrid="guide",
            adapters=[(self.device.adapter(name), weight) for name, weight in weights.items()], size=self.place.size,
        )  # fmt: skip
        generator, came = self.device.generator, Assistance(wish.steps)
        began, used = time.monotonic(), time.process_time()
        if not wish.form:
            pictures = generator.draw(order, decoder=self.place.decoder)
        else:
            assist = Assist(self.place.broker, wish.form, wish.by_helper)
            home = Home(Path(self.place.home))
            pictures, came = draw_assisted(generator, order, assist, home, weights, decoder=self.place.decoder)
        seconds, processor = time.monotonic() - began, time.process_time() - used
        pixels = np.asarray(pictures[0], np.float32) / 255
        key = wish.seed, wish.steps, wish.leaf
        alone = self._alone.setdefault(key, pixels) if not wish.form else self._alone.get(key)
        return {
            "event": "drew", "seconds": seconds, "processor_s": processor, "by_helper": came.by_helper,
            "dropped": came.dropped, "reason": "" if came.reason is None else type(came.reason).__name__,
            "difference": None if alone is None else float(np.abs(pixels - alone).max()),
        }  # fmt: skip


def main() -> None:
    """Serve the lines of the input."""
    place = Place(**json.loads(sys.argv[1]))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {place.core})
    painter = _Painter(place, Device(place.bundle, home=place.home, threads=1))
    painter.draw(Wish(seed=0, steps=2))
    if place.group:
        enter(Path(place.group))
    print(json.dumps({"event": "ready"}), flush=True)
    for line in sys.stdin:
        print(json.dumps(painter.draw(Wish(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
