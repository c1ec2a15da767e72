"""The machine that the process runs on: its processor, and the cores and memory that the process may use.

A container sees all cores and all memory of its host. Its limits are in its control group (cgroup), of which there are
two generations. In both, every group on the way from the process up to the root may set a limit, and the smallest one
holds.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Cores:
    """Number of threads that can run at once, and the source of that limit."""

    count: int
    reason: str


@dataclass(frozen=True)
class Processor:
    """A processor model. `identity` also covers its instruction sets, on which prepared weights depend."""

    name: str
    identity: str


def usable_cores(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> Cores:
    """Cores that this process may use: in containers and under taskset fewer than the machine has."""
    machine = os.cpu_count() or 1
    found = Cores(machine, "all that the machine has")
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
        if allowed < machine:
            found = Cores(allowed, f"the process is bound to {allowed} of {machine}")
    quota = min(_cpu_quotas(cgroups, membership), default=math.inf)
    if quota < found.count:
        # Rounded down: one more thread on a fraction of a core would only make the others wait.
        return Cores(max(1, int(quota)), f"the container may use {quota:g} of {machine}")
    return found


def available_cores() -> int:
    """The number of `usable_cores`."""
    return usable_cores().count


def memory_limit(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int | None:
    """Bytes that the control group of this process may use; None without a limit."""
    limits = [
        int(text)
        for folder in _groups("memory", cgroups, membership)
        for text in [_read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")]
        if text.isdigit()
    ]
    # The first generation writes "no limit" as the largest number of pages.
    limit = min(limits, default=2**60)
    return limit if limit < 2**60 else None


def memory() -> tuple[int, int] | None:
    """Bytes of memory and bytes available of the machine; None where the system does not say (outside Linux)."""
    lines = _fields(_MEMINFO)
    try:
        total, available = (int(lines[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    except (KeyError, IndexError, ValueError):
        return None
    return total, available


def anonymous_memory() -> int:
    """Bytes of this process's own memory, without pages of mapped files; 0 where the system does not say (outside
    Linux)."""
    return int(_fields(_STATUS).get("RssAnon", "0").split()[0]) * 1024


def _fields(file: Path) -> dict[str, str]:
    """Name -> value of a file of lines such as "MemTotal: 8 kB"."""
    return dict(line.split(":", 1) for line in _read(file).splitlines() if ":" in line)


@functools.cache
def processor() -> Processor:
    """The processor of this machine."""
    lines = [line.split(":", 1) for line in _read(_CPUINFO).splitlines() if ":" in line]
    # All kinds of cores are read: edge boards often have two.
    facts = {key.strip(): value.strip() for key, value in reversed(lines)}
    kinds = {value.strip() for key, value in lines if key.strip() in ("model name", "CPU part", "flags", "Features")}
    name = facts.get("model name") or facts.get("Model") or _brand() or platform.processor() or platform.machine()
    described = "\n".join([platform.system(), platform.machine(), name, *sorted(kinds)])
    return Processor(name, hashlib.sha256(described.encode()).hexdigest()[:16])


def _brand() -> str:
    """Name of the processor on macOS, where only the system's own program reads it."""
    if sys.platform != "darwin":
        return ""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _cpu_quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    for folder in _groups("cpu", cgroups, membership):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        # Without a limit the second generation says "max", the first -1.
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)


def _groups(controller: str, cgroups: Path, membership: Path) -> Iterator[Path]:
    """Folders of this process's control groups with that `controller`, the innermost first."""
    for line in _read(membership).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        root = cgroups if not controllers else cgroups / controllers
        if not controllers and not root.joinpath("cgroup.controllers").exists():
            root = cgroups / "unified"
        if controllers and not root.is_dir():
            root = cgroups / controller
        folder = root / path.lstrip("/")
        # Inside a container the path may be the host's, and the own group mounted as the root.
        yield from [place for place in (folder, *folder.parents) if place == root or root in place.parents]


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return ""
