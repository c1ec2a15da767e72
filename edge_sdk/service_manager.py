"""Words to the service manager (systemd) that has started this process: that it is ready, works, and does what.

The protocol is a datagram to the socket of $NOTIFY_SOCKET, see sd_notify(3). The watchdog is fed by the loop that
works, at its every turn, and by no thread of its own: if the loop hangs, the manager ends the process and starts it
again.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from edge_sdk.streams import printable

# Words in each watchdog interval; sd_watchdog_enabled(3) recommends two at least.
_SHARE = 3
_LONGEST_STATUS = 200


class ServiceManager:
    """The service manager of this process; without one, all methods do nothing.

    Args:
        environment: in place of the process's own, with NOTIFY_SOCKET and WATCHDOG_USEC.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._interval = _interval(environment)
        self._ready = False
        self._fed_at = 0.0

    def working(self) -> None:
        """Tell that the loop has come round: the first time that the service is ready, then that it is alive."""
        if self._address is None:
            return
        now = time.monotonic()
        due = self._interval is not None and now - self._fed_at >= self._interval / _SHARE
        # Said again at the next turn if the manager could not take it.
        if (not self._ready and self._say("READY=1\nWATCHDOG=1")) or (self._ready and due and self._say("WATCHDOG=1")):
            self._ready, self._fed_at = True, now

    def status(self, text: str) -> None:
        """Tell in one line what the service does; `systemctl status` shows it."""
        self._say(f"STATUS={printable(' '.join(text.split()))[:_LONGEST_STATUS]}")

    def stopping(self) -> None:
        """Tell that the service is about to end by itself."""
        self._say("STOPPING=1")

    def _say(self, message: str) -> bool:
        """Say something; True if the manager has it. One that is away or busy is no reason to wait, or to end."""
        if self._address is None:
            return False
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.setblocking(False)
            line.sendto(message.encode(), self._address)
            return True
        return False


def _address(text: str) -> str | None:
    """The address of the manager's socket; "@" stands for the abstract name space. None if there is none here."""
    if not hasattr(socket, "AF_UNIX") or not text.startswith(("/", "@")):
        return None
    return "\0" + text[1:] if text.startswith("@") else text


def _interval(environment: Mapping[str, str]) -> float | None:
    """Seconds within which the manager wants to hear of us; None if it does not ask for that, or asks another."""
    microseconds, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if process and process != str(os.getpid()):
        return None
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) > 0 else None
