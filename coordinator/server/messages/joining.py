"""Messages of devices that come and go: Join, Hello, Leave and Presence."""

from __future__ import annotations

import time

from coordinator import rounds
from coordinator.identity import ERASED, JOIN_NEEDED, Admissions, Greetings, Presences, Refusal
from coordinator.ingress import FEDERATION_FULL, Limits
from coordinator.runner import Runner
from coordinator.server.connection import Connection
from coordinator.server.departures import Departures
from coordinator.server.eviction import Eviction
from coordinator.server.outgoing import Outgoing
from coordinator.telemetry import REPEATED_HELLO, STALE_PRESENCE, STRANGERS_LEAVE, STRANGERS_PRESENCE, Counters
from edge_sdk.wire import Hello, Join, Leave, Presence, Refused, Welcome


class Joining:
    """Handles messages of devices that come and go; a method for each kind.

    Args:
        rules: the rules of the rounds.
        runner: is fed what devices have said.
        limits: the limit of devices.
        admissions: decide who may join.
        greetings: check hellos.
        presences: have the last presence of each name.
        eviction: makes room for a newcomer.
        departures: end the part of a device.
        connection: is told of devices that show presence.
        outgoing: answers.
        counters: count messages that are ignored.
    """

    def __init__(
        self, rules: rounds.Rules, runner: Runner, limits: Limits, admissions: Admissions, greetings: Greetings,
        presences: Presences, eviction: Eviction, departures: Departures, connection: Connection, outgoing: Outgoing,
        counters: Counters,
    ) -> None:  # fmt: skip
        self._rules = rules
        self._runner = runner
        self._limits = limits
        self._admissions = admissions
        self._greetings = greetings
        self._presences = presences
        self._eviction = eviction
        self._departures = departures
        self._connection = connection
        self._outgoing = outgoing
        self._counters = counters

    def join(self, device: str, join: Join) -> None:
        """Admit a device, or turn it away; a full federation may replace another one by it."""
        if self._greetings.is_erased(join.profile.key):  # sent before the device asked to be forgotten
            self._outgoing.refuse(device, ERASED, about="join")
            return
        devices = self._runner.state.devices
        full = device not in devices and len(devices) >= self._limits.devices
        spare = self._eviction.candidate() if full else None
        if full and spare is None:
            self._outgoing.refuse(device, Refusal(FEDERATION_FULL, self._limits.reason(FEDERATION_FULL)), about="join")
        elif refusal := self._admissions.problem(device, join.invitation, now=time.time()):
            self._departures.turn_away(device, refusal, about="join")
        else:
            self._runner.feed(rounds.Joined(device, join.profile, self._presences.last(device)))
            if device in self._runner.state.devices:
                self._greetings.joined(device, join.profile)
            if spare is not None and device in self._runner.state.devices:
                self._eviction.evict(spare)

    def hello(self, device: str, hello: Hello) -> None:
        """Answer a hello; a step of the machine is needed only for a device that may have missed something."""
        state = self._runner.state
        known = state.devices.get(device)
        if self._greetings.is_repeated(device, hello):
            self._counters.ignore(REPEATED_HELLO)
        elif known is None or known.left or not self._greetings.accept(device, hello):
            refused = Refused(code=JOIN_NEEDED.code, reason=JOIN_NEEDED.reason, about="hello")
            self._outgoing.send(device, refused)
        elif self._runner.settled and rounds.has_all(state, device):
            self._outgoing.send(device, Welcome(round=state.round, rounds=self._rules.rounds))
        else:
            self._runner.feed(rounds.Greeted(device))

    def leave(self, device: str, leave: Leave) -> None:
        """Let a device go."""
        if device in self._runner.state.devices:
            self._departures.leave(device, leave.reason)
        else:
            self._counters.ignore(STRANGERS_LEAVE)

    def presence(self, device: str, presence: Presence) -> None:
        """Take in that a device is online or offline. Most devices show it before they join."""
        known = self._runner.state.devices.get(device)
        if known and not presence.online and not rounds.is_death(known, presence.epoch):
            self._counters.ignore(STALE_PRESENCE)
            return
        self._presences.note(device, presence)
        if known is None:
            self._counters.ignore(STRANGERS_PRESENCE)
            return
        if presence.online:
            self._connection.show(device)
        self._runner.feed(rounds.Seen(device, presence.online, presence.epoch))
