"""Control groups of version 1: processes of a benchmark that get less than the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PERIOD = 100_000  # microseconds, the system's own
_FIRST = 1 << 18  # the largest weight: other work on the machine takes nothing of the share


def controller(name: str) -> Path | None:
    """Mount point of a controller ("memory", "cpu"); None if there is none that this user may write to."""
    mounts = Path("/proc/mounts")
    for line in mounts.read_text("utf-8").splitlines() if mounts.exists() else []:
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup" and name in options.split(",") and os.access(place, os.W_OK):
            return Path(place)
    return None


@contextmanager
def share_of_a_core(share: float) -> Iterator[Path | None]:
    """A new group whose processes together get this share of one core's time; None if this user can make none.

    A process enters by `enter`. All have to end before the context does.
    """
    root = controller("cpu")
    if root is None:
        yield None
        return
    group = root / f"impasto-benchmark-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD), "ascii")
        (group / "cpu.shares").write_text(str(_FIRST), "ascii")
        (group / "cpu.cfs_quota_us").write_text(str(int(share * _PERIOD)), "ascii")
        yield group
    finally:
        group.rmdir()


def enter(group: Path) -> None:
    """Move this process, with all its threads, into a group."""
    (group / "cgroup.procs").write_text(str(os.getpid()), "ascii")
