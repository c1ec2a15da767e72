"""The throttling bits of a Raspberry Pi's firmware.

Source: https://www.raspberrypi.com/documentation/computers/os.html#get_throttled. Bits 0 to 3 are the state now, bits
16 to 19 the same since the board was switched on.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Deprecated: kernels warn of its use in their log. It is read only where the firmware's own program is missing.
_SYSFS = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
_MEANINGS = {
    0: "under-voltage",
    1: "processor frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
_SINCE_START = 16
_DEADLINE = 5.0  # seconds
_UNDER_VOLTAGE = 0


@dataclass(frozen=True)
class Throttling:
    """The firmware's answer.

    bits: the number; None if the firmware could not be asked.
    trouble: the reason then.
    """

    bits: int | None
    trouble: str = ""

    @property
    def now(self) -> tuple[str, ...]:
        """Names of what slows the board down now."""
        return self._named(0)

    @property
    def since_start(self) -> tuple[str, ...]:
        """The same since it was switched on."""
        return self._named(_SINCE_START)

    @property
    def under_voltage(self) -> bool:
        """True if the power supply was too weak at any time since the board was switched on."""
        return bool((self.bits or 0) & (1 << _UNDER_VOLTAGE | 1 << _UNDER_VOLTAGE + _SINCE_START))

    @property
    def text(self) -> str | None:
        """The number as `vcgencmd` writes it, such as "0x50005"."""
        return None if self.bits is None else f"{self.bits:#x}"

    def _named(self, shift: int) -> tuple[str, ...]:
        bits = self.bits or 0
        return tuple(name for bit, name in _MEANINGS.items() if bits & 1 << bit + shift)


def parse_bits(text: str) -> int | None:
    """The number in "throttled=0x50005" (vcgencmd) or in "50005" (/sys, hexadecimal as well); None if there is none."""
    found = re.fullmatch(r"\s*(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})\s*", text)
    return int(found[1], 16) if found else None


def read_throttling(sysfs: Path = _SYSFS) -> Throttling | None:
    """Ask the firmware; None where there is no such firmware."""
    program = shutil.which("vcgencmd")
    asked = _ask(program) if program else None
    if asked is not None and asked.bits is not None:
        return asked
    try:
        bits = parse_bits(sysfs.read_text("utf-8", errors="replace"))
    except OSError:
        return asked
    return asked if bits is None else Throttling(bits)


def _ask(program: str) -> Throttling:
    try:
        done = subprocess.run([program, "get_throttled"], capture_output=True, timeout=_DEADLINE, check=False)
    except subprocess.TimeoutExpired:
        return Throttling(None, f"vcgencmd did not answer within {_DEADLINE:g} s")
    except OSError as error:
        return Throttling(None, f"vcgencmd could not be started ({error.strerror})")
    said = done.stdout.decode("utf-8", errors="replace")
    if (bits := parse_bits(said)) is not None:
        return Throttling(bits)
    why = " ".join((said + done.stderr.decode("utf-8", errors="replace")).split())[:200]
    return Throttling(None, f"vcgencmd said: {why or 'nothing'}")
