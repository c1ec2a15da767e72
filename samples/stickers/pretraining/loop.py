"""Parts that the three training stages share: checkpoints that survive a kill, and a loop that reports."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a temporary file and rename it, so that a kill leaves the last complete checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    return torch.load(path, weights_only=True) if path.exists() else None


def warmup_cosine(step: int, steps: int, warmup: int, floor: float = 0.02) -> float:
    """Learning-rate factor: linear warm-up, then a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


@dataclass
class Ema:
    """Exponential moving average of parameters, with the usual ramp so that early steps weigh little."""

    decay: float
    shadow: list[torch.Tensor] = field(default_factory=list)

    def update(self, parameters: Iterable[torch.Tensor], step: int) -> None:
        live = [p.detach() for p in parameters]
        if not self.shadow:
            self.shadow = [p.clone() for p in live]
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_mul_(self.shadow, decay)
        torch._foreach_add_(self.shadow, live, alpha=1 - decay)

    def copy_to(self, parameters: Iterable[torch.Tensor]) -> None:
        for p, s in zip(parameters, self.shadow, strict=True):
            p.data.copy_(s)


@dataclass
class Log:
    """Log to the terminal and a JSON-lines file every `every` steps: step, smoothed values, seconds so far."""

    path: Path
    every: int = 50
    seconds: float = 0.0
    _sums: dict[str, float] = field(default_factory=dict)
    _count: int = 0
    _last: float = field(default_factory=time.monotonic)

    def add(self, step: int, **values: float) -> None:
        now = time.monotonic()
        self.seconds += now - self._last
        self._last = now
        self._count += 1
        for key, value in values.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
        if step % self.every == 0:
            row = {"step": step} | {k: round(v / self._count, 5) for k, v in self._sums.items()}
            row |= {"seconds": round(self.seconds)}
            self._sums, self._count = {}, 0
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


def last_row(path: Path) -> dict[str, Any]:
    """The newest row of a log."""
    row: dict[str, Any] = json.loads(path.read_text("utf-8").splitlines()[-1])
    return row


def run(
    steps: int, start: int, one_step: Callable[[int], dict[str, float]], save: Callable[[int], None], log: Log
) -> None:
    """Call `one_step(step)` from `start` to `steps`, save every 250 steps and at the end."""
    for step in range(start, steps):
        log.add(step + 1, **one_step(step))
        if (step + 1) % 250 == 0 or step + 1 == steps:
            save(step + 1)
