"""Temperatures and power supplies, from /sys.

Sources: Documentation/ABI/testing/sysfs-class-thermal and sysfs-class-power of the Linux kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_THERMAL = Path("/sys/class/thermal")
_POWER = Path("/sys/class/power_supply")
# Sensors that are switched off report nonsense such as -256 °C.
_POSSIBLE = (-60.0, 150.0)
# Trip points at which the kernel slows the processor down.
_SLOWING = "passive"


@dataclass(frozen=True)
class Temperature:
    """A sensor's temperature in °C, and the one from which on the kernel slows the board down, if it is known."""

    sensor: str
    celsius: float
    limit: float | None = None

    @property
    def hot(self) -> bool:
        """True if the board is slowed down for it."""
        return self.limit is not None and self.celsius >= self.limit


@dataclass(frozen=True)
class Supply:
    """A power supply of the board: a battery, mains, USB.

    kind: "Battery", "Mains", "USB", "UPS", ...
    percent: charge of a battery; None if it is unknown.
    status: of a battery: "Charging", "Discharging", "Full", "Not charging", "Unknown"; empty if it has none.
    online: of others: True if power comes from it; None if it does not say.
    """

    name: str
    kind: str
    percent: int | None = None
    status: str = ""
    online: bool | None = None

    @property
    def is_battery(self) -> bool:
        return self.kind in ("Battery", "UPS")

    @property
    def drains(self) -> bool:
        """True if it is a battery that the board runs on."""
        return self.is_battery and self.status == "Discharging"


def read_temperatures(folder: Path = _THERMAL) -> list[Temperature]:
    """The temperatures of all sensors that work, the hottest first."""
    found = []
    for zone in _entries(folder, "thermal_zone*"):
        celsius = _thousandths(zone / "temp")
        if celsius is not None and _POSSIBLE[0] <= celsius <= _POSSIBLE[1]:
            found.append(Temperature(_read(zone / "type") or zone.name, celsius, _limit(zone)))
    return sorted(found, key=lambda temperature: -temperature.celsius)


def read_supplies(folder: Path = _POWER) -> list[Supply]:
    """The board's power supplies. Batteries of a mouse or a keyboard do not count."""
    found = []
    for entry in _entries(folder, "*"):
        if _read(entry / "scope") == "Device" or _read(entry / "present") == "0":
            continue
        kind, percent, online = _read(entry / "type"), _read(entry / "capacity"), _read(entry / "online")
        if kind:
            charge = int(percent) if percent.isdigit() and int(percent) <= 100 else None
            status = _read(entry / "status")
            found.append(Supply(entry.name, kind, charge, status, online != "0" if online.isdigit() else None))
    return found


def _limit(zone: Path) -> float | None:
    points = [
        point
        for kind in _entries(zone, "trip_point_*_type")
        if _read(kind) == _SLOWING
        for point in [_thousandths(kind.with_name(kind.name.replace("_type", "_temp")))]
        if point is not None and point > 0
    ]
    return min(points, default=None)


def _thousandths(file: Path) -> float | None:
    try:
        return int(_read(file)) / 1000
    except ValueError:
        return None


def _entries(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", errors="replace").strip()[:100]
    except OSError:  # also a sensor that has nothing to say just now
        return ""
