"""A real coordinator that is killed at one instruction after another: python -m tests.faults.dying_coordinator FILE

Every life is a process that runs `impasto-coordinator serve FILE --once` and sends itself SIGKILL when it comes to its
point; the last one lives to the end. They are forked, so that Python and its packages are loaded once only.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from coordinator.cli import main
from coordinator.learning.aggregate import Learning
from coordinator.server.cleanup import Cleanup
from coordinator.store import Database
from coordinator.store.blobs import FolderBlobs
from coordinator.transfers.uploads import Uploads


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _with_updates(_: Any, state: Any, updates: list[Any], *more: Any) -> bool:
    return bool(updates)


# Name -> (class, method, before or after it, whether these arguments are the moment).
POINTS: dict[str, tuple[type, str, str, Callable[..., bool]]] = {
    "update came whole": (Uploads, "_received", "before", lambda *_: True),
    "update checked, not on disk": (FolderBlobs, "take", "before", lambda *_: True),
    "update on disk, not counted": (FolderBlobs, "take", "after", lambda *_: True),
    "update counted in memory, not saved": (Database, "save", "before", _with_updates),
    "update counted, not answered": (Database, "save", "after", _with_updates),
    "all committed, not aggregated": (Learning, "aggregate", "before", lambda *_: True),
    "aggregated, not saved": (Learning, "aggregate", "after", lambda *_: True),
    "round closed, nothing deleted": (Cleanup, "clean", "before", lambda *_: True),
}


def arm(point: str) -> None:
    """Make this process die when it comes to the point."""
    owner, name, when, matters = POINTS[point]
    original = getattr(owner, name)

    def fatal(*given: Any, **named: Any) -> Any:
        if when == "before" and matters(*given):
            _die()
        result = original(*given, **named)
        if matters(*given):
            _die()
        return result

    setattr(owner, name, fatal)


def live(path: str, point: str | None = None) -> int:
    """One life; returns its exit code, -9 if it was killed."""
    child = os.fork()
    if not child:
        if point:
            arm(point)
        main(["serve", path, "--once"])
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    for point in POINTS:
        if (code := live(sys.argv[1], point)) != -signal.SIGKILL:
            sys.exit(f"{point}: ended with code {code} instead of being killed")
    sys.exit(live(sys.argv[1]))
