"""The board that the process runs on: power supply, throttling, temperature, memory groups.

model.py         the board's name
throttling.py    bits of the firmware of a Raspberry Pi
sensors.py       temperatures, batteries and other power supplies, from /sys
control_group.py limits of memory, and the controller that they need
facts.py         all of it
check.py         findings about it
"""

from __future__ import annotations

from edge_sdk.diagnosis.board.check import check_board
from edge_sdk.diagnosis.board.control_group import memory_limits_work
from edge_sdk.diagnosis.board.facts import BoardFacts
from edge_sdk.diagnosis.board.model import board_model, is_raspberry_pi
from edge_sdk.diagnosis.board.sensors import Supply, Temperature, read_supplies, read_temperatures
from edge_sdk.diagnosis.board.throttling import Throttling, parse_bits, read_throttling

__all__ = [
    "BoardFacts",
    "Supply",
    "Temperature",
    "Throttling",
    "board_model",
    "check_board",
    "is_raspberry_pi",
    "memory_limits_work",
    "parse_bits",
    "read_supplies",
    "read_temperatures",
    "read_throttling",
]
