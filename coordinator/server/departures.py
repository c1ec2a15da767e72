"""Departures: devices that leave, are turned away, or are shut out by the operator."""

from __future__ import annotations

import time

from coordinator import rounds
from coordinator.identity import REVOKED, Admissions, Refusal
from coordinator.runner import Runner
from coordinator.server.outgoing import Outgoing
from coordinator.transfers import Sessions

# Seconds between two readings of the revoked devices; they are also read before every round and every tick.
_LOOK = 5.0


class Departures:
    """Ends the part of devices.

    Args:
        runner: is fed that a device has left.
        admissions: has the revoked devices.
        sessions: drop what waits for a device that has left.
        outgoing: tells a device why.

    Attributes:
        look_at: time of the next reading of the revoked devices.
    """

    def __init__(self, runner: Runner, admissions: Admissions, sessions: Sessions, outgoing: Outgoing) -> None:
        self._runner = runner
        self._admissions = admissions
        self._sessions = sessions
        self._outgoing = outgoing
        self.look_at = 0.0

    def leave(self, device: str, reason: str, *, shut_out: bool = False) -> None:
        """Let a device go; with `shut_out`, it is the coordinator that has decided it."""
        self._sessions.dismiss(device)
        self._runner.feed(rounds.Left(device, reason, shut_out))

    def turn_away(self, device: str, refusal: Refusal, *, about: str) -> None:
        """Refuse a device's message, and end its part if it has one."""
        self._outgoing.refuse(device, refusal, about=about)
        if device in self._runner.state.devices:
            self.leave(device, refusal.code, shut_out=True)

    def shut_out_revoked(self) -> None:
        """Shut out revoked devices, including those that send nothing that could be refused.

        Raises:
            StoreUnavailable: the revoked devices cannot be read.
        """
        self.look_at = time.monotonic() + _LOOK
        devices = self._runner.state.devices
        for device in sorted(self._admissions.revoked & devices.keys()):
            if not devices[device].left:
                self.turn_away(device, REVOKED, about="join")
