"""Reminders: the event `waiting` says from time to time what the federation waits for."""

from __future__ import annotations

import time

from coordinator import rounds
from coordinator.identity import Presences
from coordinator.telemetry.events import Reports
from edge_sdk.errors import TransportError
from edge_sdk.transport import Reminder

# Seconds of a wait before it is reported, and seconds between two checks of a changing wait.
_SILENCE, _LOOKS = 5.0, 1.0


class Reminders:
    """Reminders of one federation.

    Args:
        rules: the rules of the rounds.
        presences: have devices that are online and have not joined.
        report: reports the waits.
        goodbyes: true if devices that stay after the last round are waited for.
    """

    def __init__(self, rules: rounds.Rules, presences: Presences, report: Reports, *, goodbyes: bool) -> None:
        self._rules = rules
        self._presences = presences
        self._report = report
        self._goodbyes = goodbyes
        self._reminder = Reminder(_SILENCE)
        # State and connection at the last check, and the time of the next check.
        self._seen: tuple[rounds.State | None, float | None] = (None, None)
        self._due = 0.0

    def tell(self, state: rounds.State, away_since: float | None, trouble: TransportError | None) -> None:
        """Report what is waited for, if that is due.

        Args:
            state: state of the rounds.
            away_since: time at which the connection to the broker was lost; None while there is one.
            trouble: the reason why there is no connection.
        """
        now = time.monotonic()
        seen, was_away = self._seen
        if now < self._due or (seen is state and was_away == away_since and not self._reminder.may_be_due(now)):
            return
        self._due, self._seen = now + min(_SILENCE, _LOOKS), (state, away_since)
        found = rounds.awaited(self._rules, state, now, named=False)
        if found and found.what == "goodbyes" and not self._goodbyes:
            found = None
        told = (found.what, state.round, found.there) if found else None
        if (waited := self._reminder.due(told if away_since is None else "broker", now)) is None:
            return
        found = found and rounds.awaited(self._rules, state, now)
        if away_since is not None:
            self._report("waiting", what="broker", seconds=waited, reason=str(trouble or ""))
        elif found:
            self._report(
                "waiting",
                what=found.what,
                seconds=waited,
                there=found.there,
                needed=found.needed,
                awaited=list(found.names),
                left=None if found.until is None else max(0.0, found.until - now),
                unjoined=self._presences.online_but(state.devices) if found.what == "devices" else 0,
            )
