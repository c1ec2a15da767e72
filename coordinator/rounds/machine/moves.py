"""The legal moves of a federation between its phases, as one table; `turn` asserts every move against it.

    gathering ──enough devices──> clustering ──Clustered, Failed──> training ──quorum or deadline──> aggregating
       ^ ^ ^                          │ nobody is left               │   │                             │   │
       │ │ └──────────────────────────┘                              │   │ the last round is given up  │   │
       │ └──────────nobody delivered, or the round is given up───────┘   │                             │   │
       └────────────────────────────Aggregated, Failed───────────────────│─────────────────────────────┘   │
                                                                         v        after the last round     v
                                                                      finished <───────────────────────────┘

A finished federation to which its operator adds rounds is begun anew by `server.takeover`, outside of the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from coordinator.rounds.state import Phase

LEGAL: Mapping[Phase, Set[Phase]] = {
    "gathering": {"clustering"},
    "clustering": {"training", "gathering"},
    "training": {"aggregating", "gathering", "finished"},
    "aggregating": {"gathering", "finished"},
    "finished": set(),
}


def is_legal(before: Phase, after: Phase) -> bool:
    """Return True if a federation may move from one phase to the other; it may always stay."""
    return after == before or after in LEGAL[before]
