"""A device in a process of its own that is killed (SIGKILL) at one of its steps in a masked sum.

    python -m tests.integration.dying_device URL HOME NUMBER AT before|after [local]

AT: the write of its part in a sum to the journal, from 1 in this session, before or after which it dies; 0: never.
local: it chooses its cluster alone.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from edge_sdk.membership.journal import Journal
from tests.integration.devices import Device

_keep = Journal.keep_sum


def die_at(at: int, when: str) -> None:
    """Let the process die at this write."""
    writes = 0

    def keep(self: Journal, *given: Any, **named: Any) -> None:
        nonlocal writes
        writes += 1
        if writes == at and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        _keep(self, *given, **named)
        if writes == at and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.keep_sum = keep  # type: ignore[method-assign]


def main() -> None:
    url, home, number, at, when, *more = sys.argv[1:]
    die_at(int(at), when)
    device = Device(int(number), url, Path(home), local="local" in more).start().join()
    if device.error is not None:
        raise device.error
    print(f"updates: {device.result.updates if device.result else None}; trained: {device.trained}")


if __name__ == "__main__":
    main()
