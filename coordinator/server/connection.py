"""The connection to the broker: what the coordinator is there, and what may have been missed while it was lost."""

from __future__ import annotations

import time
from dataclasses import replace

from coordinator import rounds
from coordinator.identity import Leadership
from coordinator.ingress import Inbox, Item
from coordinator.runner import Runner
from coordinator.telemetry import Counters, Reports
from coordinator.transfers import Publisher
from edge_sdk.errors import AccessDenied, BrokerSettingsInvalid, TransportError
from edge_sdk.transport import Handler, Settings, Will, create, fresh_id, hang_up
from edge_sdk.wire import Signer, Topics, check_room

CONNECT_DEADLINE = 30.0
_WILL_DELAY = 5.0
# Seconds that our own state may take to come back from the broker.
_ECHO = 10.0


class Connection:
    """The connection of one instance of the coordinator.

    Args:
        settings: settings of the transport; their callbacks are called as well.
        topics: the federation's topics.
        leadership: the instance's claim, which the state on the broker shows.
        signer, epoch: sign what is published.
        inbox: the loop's inbox, for what is to be done once the connection is back.
        runner: is fed the reconnection.
        counters: count what is sent.
        report: reports changes of the connection.

    Attributes:
        publisher: publishes messages and chunks.
        away_since: time at which the connection was lost; None while there is one.

    Raises:
        BrokerSettingsInvalid: the settings are invalid, or have a will.
    """

    def __init__(
        self, settings: Settings, topics: Topics, leadership: Leadership, signer: Signer, epoch: int,
        inbox: Inbox[Item], runner: Runner, counters: Counters, report: Reports,
    ) -> None:  # fmt: skip
        if settings.will is not None:
            raise BrokerSettingsInvalid("A coordinator has a will of its own: leave `will` out of the settings.")
        self._settings = settings
        self._topics = topics
        self._leadership = leadership
        self._inbox = inbox
        self._runner = runner
        self._report = report
        self._shown: set[str] = set()  # devices that showed presence since the last lost connection
        self._deaf_at: float | None = None  # when our own state should have come back
        self.away_since: float | None = None
        self._transport = create(
            replace(
                settings,
                # An id per instance: two coordinators of one id would disconnect each other. The epoch decides instead.
                client_id=settings.client_id or fresh_id("coordinator"),
                will=Will(topics.coordinator_state, leadership.offline, delay=_WILL_DELAY),
                on_connection=self._changed,
                on_trouble=self._troubled,
            )
        )
        self.publisher = Publisher(self._transport, topics, signer, epoch, counters, report)

    @property
    def trouble(self) -> TransportError | None:
        """The reason why there is no connection, or of the last refusal; None if there is none."""
        return self._transport.trouble

    def open(self) -> None:
        """Connect.

        Raises:
            BrokerUnreachable: no connection; the message has the reason.
            PayloadTooLarge: the broker's largest payload is too small for a federation.
        """
        if self._settings.exposed:
            self._report("password_exposed", broker=self._settings.address.endpoint)
        self._transport.connect(CONNECT_DEADLINE, lambda error: self._report("broker_unreachable", reason=str(error)))
        check_room(self._transport.max_payload)

    def subscribe(self, handler: Handler) -> None:
        """Let `handler` be called with all messages of the federation, on the transport's thread.

        Raises:
            AccessDenied: the broker's rules do not allow it.
        """
        for topic_filter in (self._topics.all_up, self._topics.all_presence, self._topics.coordinator_state):
            self._transport.subscribe(topic_filter, handler)

    def publish_state(self) -> None:
        """Publish the coordinator's state, retained."""
        self.publisher.state(self._leadership.online)

    def expect_echo(self) -> None:
        """Expect that our own state comes back from the broker soon, as it was published and subscribed to."""
        self._deaf_at = time.monotonic() + _ECHO

    def keep_up(self, now: float) -> None:
        """Publish the state again if somebody has overwritten it; report if nothing of it has come back."""
        if self._leadership.due is not None and self._leadership.due <= now:
            self._leadership.restated(now)
            self.publish_state()
        if self._deaf_at is not None and self._deaf_at <= now:
            self._listen_to_ourselves()

    def show(self, device: str) -> None:
        """Note that a device has shown presence on this connection."""
        self._shown.add(device)

    def forget(self, device: str) -> None:
        """Forget a device."""
        self._shown.discard(device)

    def hurry(self) -> None:
        """Prepare for the end: nothing waits for a lost connection any more. From any thread."""
        self._transport.hurry()

    def hang_up(self) -> None:
        """Tell devices that the coordinator is offline, and disconnect."""
        hang_up(self._transport, self._topics.coordinator_state, self._leadership.offline)

    def close(self) -> None:
        """Disconnect without a word."""
        self._transport.close()

    # on the transport's thread --------------------------------------------------------------------------------------

    def _changed(self, online: bool) -> None:
        """Note a lost or restored connection.

        The broker may have published our will, or have lost its retained messages.
        """
        now = time.monotonic()
        if online:
            self._report("broker_back", seconds=now - (self.away_since or now))
            self._inbox.put(self.publish_state, 0)
            self._inbox.put(self._come_back, 0)
        else:
            self._inbox.put(self._shown.clear, 0)
            self._report("broker_lost", reason=str(self._transport.trouble or "no reason is known"))
        self.away_since = None if online else now
        if self._settings.on_connection:
            self._settings.on_connection(online)

    def _troubled(self, error: TransportError) -> None:
        """Report that the broker refuses a message, or that reconnecting fails for a new reason."""
        code, reason = type(error).__name__, str(error)
        self._report("broker_refused" if self.away_since is None else "broker_unreachable", code=code, reason=reason)
        if self._settings.on_trouble:
            self._settings.on_trouble(error)

    # on the loop's thread -------------------------------------------------------------------------------------------

    def _come_back(self) -> None:
        """Feed the reconnection: the broker may have lost all that it retained."""
        self._runner.feed(rounds.Reconnected(frozenset(self._shown)))

    def _listen_to_ourselves(self) -> None:
        """Report if our own state has not come back.

        Many brokers confirm a forbidden subscription and deliver nothing.
        """
        self._deaf_at = None
        if not self._leadership.heard and self.away_since is None and self._transport.trouble is None:
            reason = (
                f"The broker at {self._settings.address.endpoint} has confirmed all subscriptions and delivers "
                f"nothing of {self._topics.coordinator_state}: its rules may keep this coordinator from hearing "
                "anybody. Let its user read and write impasto/1/# (docs/protocol.md, section 3; samples/broker/acl)."
            )
            self._report("broker_refused", code=AccessDenied.__name__, reason=reason)
