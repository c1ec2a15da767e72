"""The state of a federation: immutable, with the tables and counts that make a change of one device cheap.

`records` has the form in which it is saved.
"""

from __future__ import annotations

from coordinator.rounds.state.alone import Alone, Asking, Counted
from coordinator.rounds.state.census import Kind
from coordinator.rounds.state.device import Device, Member, Trace, Update
from coordinator.rounds.state.lineage import Lineage
from coordinator.rounds.state.records import (
    FORMAT,
    Head,
    Record,
    from_first_form,
    head_of,
    records_of,
    restored,
    touched,
)
from coordinator.rounds.state.round import Exchange, Past, Round
from coordinator.rounds.state.rules import Rules
from coordinator.rounds.state.state import Phase, State
from coordinator.rounds.state.table import Table

__all__ = [
    "FORMAT",
    "Alone",
    "Asking",
    "Counted",
    "Device",
    "Exchange",
    "Head",
    "Kind",
    "Lineage",
    "Member",
    "Past",
    "Phase",
    "Record",
    "Round",
    "Rules",
    "State",
    "Table",
    "Trace",
    "Update",
    "from_first_form",
    "head_of",
    "records_of",
    "restored",
    "touched",
]
