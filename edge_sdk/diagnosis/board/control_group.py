"""The memory controller of control groups, without which limits such as systemd's MemoryMax have no effect.

Raspberry Pi OS switches it off to save memory: the firmware passes `cgroup_disable=memory` to the kernel, and
`cgroup_enable=memory` in /boot/firmware/cmdline.txt switches it on again. /proc/cgroups does not tell: with Linux 6.12
it lists no memory even where the controller is on (https://github.com/raspberrypi/linux/issues/6980).
"""

from __future__ import annotations

from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def memory_limits_work(cgroups: Path = _CGROUPS) -> bool | None:
    """True if the memory controller is on, in either generation of control groups; None where there are no groups."""
    if (cgroups / "memory" / "memory.limit_in_bytes").exists():
        return True
    for root in (cgroups, cgroups / "unified"):
        controllers = root / "cgroup.controllers"
        if controllers.is_file():
            return "memory" in controllers.read_text("utf-8").split()
    return False if cgroups.is_dir() and any(cgroups.iterdir()) else None
