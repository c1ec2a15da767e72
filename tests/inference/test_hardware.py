"""Cores and memory that a process may use, read from trees of files like the kernel's, and from the kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk.inference.runtime import hardware
from tests.diagnosis.systems import tree


@pytest.mark.parametrize(
    ("membership", "files", "count"),
    [
        ("0::/app/one", {"cgroup.controllers": "", "app/one/cpu.max": "50000 100000"}, 1),
        # The limit of the group around it holds as well.
        ("0::/app/one", {"cgroup.controllers": "", "app/one/cpu.max": "max 100000", "app/cpu.max": "100000 100000"}, 1),
        # In a container the path is the host's, and the own group is the root.
        ("0::/docker/abc", {"cgroup.controllers": "", "cpu.max": "100000 100000"}, 1),
        (
            "3:cpu,cpuacct:/app",
            {"cpu,cpuacct/app/cpu.cfs_quota_us": "100", "cpu,cpuacct/app/cpu.cfs_period_us": "100"},
            1,
        ),
        ("3:cpuacct,cpu:/", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
    ],
)
def test_a_quota_limits_the_cores(tmp_path: Path, membership: str, files: dict[str, str], count: int) -> None:
    groups = tree(tmp_path / "cgroup", files)
    own = tree(tmp_path, {"self": membership}) / "self"
    quota = next(iter(hardware._cpu_quotas(groups, own)))
    assert quota <= count
    if len(os.sched_getaffinity(0)) > count:
        cores = hardware.usable_cores(groups, own)
        assert cores.count == count
        assert "container may use" in cores.reason


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("0::/app", {"cgroup.controllers": "", "app/cpu.max": "max 100000", "app/memory.max": "max"}),
        ("3:cpu:/app", {"cpu/app/cpu.cfs_quota_us": "-1", "cpu/app/cpu.cfs_period_us": "100000"}),
        ("4:memory:/app", {"memory/app/memory.limit_in_bytes": "9223372036854771712"}),
        ("nonsense", {"cpu.max": "nonsense"}),
        ("", {}),
    ],
)
def test_no_limit(tmp_path: Path, membership: str, files: dict[str, str]) -> None:
    groups = tree(tmp_path / "cgroup", files)
    own = tree(tmp_path, {"self": membership}) / "self"
    assert hardware.usable_cores(groups, own).count == len(os.sched_getaffinity(0))
    assert hardware.memory_limit(groups, own) is None


def test_the_smallest_memory_limit_holds(tmp_path: Path) -> None:
    files = {"cgroup.controllers": "", "app/memory.max": "1000", "app/one/memory.max": "2000", "memory.max": "max"}
    own = tree(tmp_path, {"self": "0::/app/one"}) / "self"
    assert hardware.memory_limit(tree(tmp_path / "second", files), own) == 1000
    own = tree(tmp_path, {"self": "5:memory:/app"}) / "self"
    first = tree(tmp_path / "first", {"memory/app/memory.limit_in_bytes": "3000"})
    assert hardware.memory_limit(first, own) == 3000


def test_being_bound_to_a_core_counts() -> None:
    script = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from edge_sdk.inference.runtime.hardware import usable_cores; print(usable_cores().count)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "1\n"


def test_this_machine() -> None:
    total, available = hardware.memory() or (0, 0)
    assert total > available > 0
    assert hardware.processor() == hardware.processor()
    assert hardware.processor().name
