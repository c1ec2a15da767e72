"""All that a board says about itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edge_sdk.diagnosis.board.control_group import memory_limits_work
from edge_sdk.diagnosis.board.model import board_model
from edge_sdk.diagnosis.board.sensors import Supply, Temperature, read_supplies, read_temperatures
from edge_sdk.diagnosis.board.throttling import Throttling, read_throttling


@dataclass(frozen=True)
class BoardFacts:
    """The facts. Fields are None or empty where the board says nothing."""

    model: str | None = None
    throttling: Throttling | None = None
    temperatures: Sequence[Temperature] = ()
    supplies: Sequence[Supply] = ()
    memory_limits: bool | None = None

    @classmethod
    def read(cls) -> BoardFacts:
        """The facts of this machine, now."""
        return cls(board_model(), read_throttling(), read_temperatures(), read_supplies(), memory_limits_work())

    def as_values(self) -> dict[str, Any]:
        """The facts as plain values, for JSON."""
        found = self.throttling
        throttled = found and {
            "bits": found.text,
            "now": list(found.now),
            "since_start": list(found.since_start),
            "trouble": found.trouble,
        }
        return {
            "model": self.model,
            "throttled": throttled,
            "temperatures": [asdict(temperature) for temperature in self.temperatures],
            "power": [asdict(supply) for supply in self.supplies],
            "memory_limits": self.memory_limits,
        }
