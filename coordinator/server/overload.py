"""Overload: senders of dropped messages are told, and so are the observers of events."""

from __future__ import annotations

import time

from coordinator.identity import Leadership
from coordinator.ingress import Gate, Inbox, Item, Limits, Rates
from coordinator.runner import Runner
from coordinator.server.outgoing import Outgoing
from coordinator.telemetry import Reports
from edge_sdk.wire import Refused, Topics


class Overload:
    """Tells of messages that found no room, or were over their sender's limits.

    Args:
        inbox, gate, downloads: have dropped them.
        limits: the limits of one device.
        topics: the federation's topics.
        leadership: is told of messages on the coordinator's own topic that nobody has read.
        runner: knows the devices, which are told.
        outgoing: tells them.
        report: reports the drops.
    """

    def __init__(
        self, inbox: Inbox[Item], gate: Gate, downloads: Rates, limits: Limits, topics: Topics,
        leadership: Leadership, runner: Runner, outgoing: Outgoing, report: Reports,
    ) -> None:  # fmt: skip
        self._inbox = inbox
        self._gate = gate
        self._downloads = downloads
        self._limits = limits
        self._topics = topics
        self._leadership = leadership
        self._runner = runner
        self._outgoing = outgoing
        self._report = report

    def tell(self, *, last: bool = False) -> None:
        """Tell of the drops that are due; with `last`, of all of them."""
        messages, chunks = self._inbox.dropped()
        if messages or chunks:
            self._report("messages_dropped", messages=messages, chunks=chunks)
        downloads = self._downloads.exceeded(time.monotonic(), all_of_it=last)
        for excess in (*self._gate.exceeded(all_of_it=last), *downloads):
            values = {"code": excess.code, "messages": excess.messages, "size": excess.bytes}
            self._report("over_quota", device=excess.sender, **values)
            if excess.sender == self._topics.coordinator_state:  # the dropped message may be the retained one
                self._leadership.overlooked(time.monotonic())
            if excess.sender in self._runner.state.devices:
                refused = Refused(code=excess.code, reason=self._limits.reason(excess.code))
                self._outgoing.send(excess.sender, refused)
