"""Membership: a device takes part in a federation, from joining to the adapters at home."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from edge_sdk.errors import BrokerUnreachable, ConfigurationError, DeadlineExceeded, TransportError
from edge_sdk.membership import rounds as machine
from edge_sdk.membership.home import Home
from edge_sdk.membership.line import Link, Session
from edge_sdk.membership.observer import Observer
from edge_sdk.membership.participant import Participant
from edge_sdk.membership.plan import Train
from edge_sdk.membership.runner import MembershipResult, Runner
from edge_sdk.membership.trust import Acquaintance
from edge_sdk.secure_aggregation import device
from edge_sdk.transport import Settings, fresh_id
from edge_sdk.wire import DeviceProfile, Greeter, Invitation, Join, Topics

OnEvent: TypeAlias = Callable[[dict[str, Any]], None]

_MAX_ADAPTERS = 512 << 20  # bytes of an adapter that is fetched


def _do_nothing() -> None:
    """Stand in for a callback that was not given."""


class Membership:
    """A device's part in a federation. Use it as a context manager, or call `close`.

    Args:
        broker: its URL, or the transport's settings (for TLS, user and password); the will is filled in, and a client
            id if there is none. Their callbacks are called as well.
        federation: its name.
        device_id: this device's name in it, 1 to 64 letters, digits, '.', '_' or '-'.
        profile: the device's profile, which the coordinator gets; or one for each privacy level that the owner allows,
            of which it gets the one of the federation's level.
        home: folder for adapters and for the state that a restart needs; one per federation.
        train: called in the thread of `run` with the plan of each round; returns the trained update. One that takes
            long looks at `stopped` now and then, and raises MembershipStopped if it is true.
        on_event: called in the thread of `run` with a dict of plain values (always "event" and "time") for events worth
            showing; docs/devices.md lists them. Every wait of more than ten seconds makes at least one. An error that
            it raises is logged, once for each type, and ends nothing; `stop` does.
        trust: the coordinator's public key, 32 bytes, if it is known from elsewhere; None trusts the first one that
            shows itself in this home, and only that one from then on.
        invitation: used up by joining, for federations that take invited devices only; it holds the coordinator's key,
            so that `trust` is not needed.
        masked_only: True if updates may leave in masked sums only, see docs/masked-sums.md.
        on_turn: called in the thread of `run` at each turn of its loop, at least every ten seconds except while `train`
            works; feed a watchdog with it. Its errors are logged as those of `on_event`.
        code: the device's prompt code of level "coarse", the same in every session: it stays here, and chooses this
            device's cluster in federations of the levels "local" and "local+dp"; empty if no profile is of these.
        epsilon: the largest epsilon of all answers with noise in this federation, for the level "local+dp"; 0: none.

    Raises:
        MessageInvalid: a name cannot be part of a topic.
        ConfigurationError: the home cannot be written or is of another federation, or the invitation is for another
            device or federation, or states another key than `trust`.
        BrokerSettingsInvalid: the broker's URL or settings make no sense, or would have no effect.
        JournalError, DeviceBusy: the journal in it cannot be used, see `Journal`.
    """

    def __init__(
        self,
        broker: str | Settings,
        federation: str,
        device_id: str,
        profile: DeviceProfile | Sequence[DeviceProfile],
        home: Path | str,
        train: Train,
        on_event: OnEvent | None = None,
        trust: bytes | None = None,
        invitation: Invitation | None = None,
        *,
        masked_only: bool = False,
        on_turn: Callable[[], None] | None = None,
        code: bytes = b"",
        epsilon: float = 0.0,
    ) -> None:
        self._topics = Topics(federation)
        self._federation = federation
        self._device = device_id
        self._on_event = Observer("on_event", on_event) if on_event else None
        self._on_turn = Observer("on_turn", on_turn) if on_turn else _do_nothing
        self._stop = threading.Event()
        self._code = code
        self._epsilon = epsilon
        if not isinstance(profile, DeviceProfile) and not profile:
            raise ConfigurationError("A membership needs a profile: allow one privacy level at least.")
        if invitation and (invitation.federation, invitation.device) != (federation, device_id):
            raise ConfigurationError(
                f"The invitation is for {invitation.device!r} in {invitation.federation!r}, not for {device_id!r} in "
                f"{federation!r}: join under those names, or ask for another one."
            )
        if invitation and trust not in (None, invitation.key):
            raise ConfigurationError(
                "The invitation names another key of the coordinator than the one to trust: give one of the two, after "
                "asking the federation's operator which is right."
            )
        self._home = Home(home)
        self._journal = self._home.journal()
        try:
            self._journal.check_owner(federation)
            self._journal.check_stays()
            self._coordinator = Acquaintance(federation, device_id, self._journal, self._tell)
            if trust := invitation.key if invitation else trust:
                self._journal.trust(trust)
            self._settings = broker if isinstance(broker, Settings) else Settings(url=broker)
            session = Session(self._journal.next_epoch())
            self._link = self._make_link(self._settings, session)
            greeter = Greeter(self._journal.own_key(), federation, device_id)
        except BaseException:
            self._journal.close()
            raise
        greetings = [
            Join(
                profile=msgspec.structs.replace(allowed, key=greeter.public),
                invitation=invitation.secret if invitation else b"",
            )
            for allowed in ([profile] if isinstance(profile, DeviceProfile) else profile)
        ]
        self._participant = Participant(
            session.birth.epoch, greetings, greeter, train, self._tell, self._stop, masked_only, epsilon
        )

    def _make_link(self, given: Settings, session: Session) -> Link:
        settings = replace(given, client_id=given.client_id or fresh_id(self._device))
        return Link(settings, self._topics, self._device, session, _MAX_ADAPTERS, self._journal)

    def __enter__(self) -> Membership:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session and disconnect. The federation goes on without the device; a new membership resumes."""
        try:
            self._link.close()
        finally:
            self._journal.close()

    def stop(self) -> None:
        """Leave soon: `run` says so to the coordinator, and returns. Any thread and any callback may call it.

        A training of `Device.join` ends after its present step, any other by its own choice. What was trained is kept:
        a new membership goes on from the last checkpoint, or hands the update in.
        """
        self._stop.set()
        self._link.hurry()

    @property
    def stopped(self) -> bool:
        """True once `stop` was called."""
        return self._stop.is_set()

    def run(self, rounds: int | None = None, *, deadline: float = 3600.0, answer: float = 30.0) -> MembershipResult:
        """Take part until the federation's last round is closed, in so many rounds, or until `stop`.

        Call it once per membership.

        If the federation has ended and all of its adapters came in an earlier session, they are put in place even when
        no broker or coordinator can be reached.

        Args:
            rounds: leave after so many committed updates, with the adapters as they are then; None stays to the end.
            deadline: longest wait, in seconds, for the coordinator's next step while other devices work.
            answer: longest wait, in seconds, for the broker and for the coordinator to show themselves.

        Raises:
            BrokerUnreachable: no connection to the broker; the message has the reason. A certificate that is not valid
                yet is tried again until `answer` is over, as clocks are set late on boards without a battery.
            AccessDenied: the broker's rules do not let this device subscribe to one of its topics, or publish on it.
            PayloadTooLarge: the broker's limit is too small for a federation, or it refuses a chunk as too large.
            UnknownFederation: nobody coordinates a federation of that name on this broker.
            Rejected: the coordinator refused the device; the message has its reason.
            PrivacyRefused: the federation asks for a privacy level of which there is no profile, or for more than
                `epsilon`, and nothing was sent; or for updates by themselves, and `masked_only` is true: then no update
                was sent.
            CoordinatorUntrusted: the coordinator shows a key that this device does not trust.
            SignatureInvalid, MessageOutdated: a state shows the trusted key without its signature, or is an old one.
            DeadlineExceeded: the coordinator was silent for longer than `deadline`.
            LineBroken: the thread that serves transfers has died of an unexpected error.
            AdapterError: an adapter from the coordinator cannot be used on this base model.
            JournalError, DeviceBusy: the journal cannot be written, see `Journal`.
            Any error that `train` raises.
        """
        rules = machine.Rules(
            federation=self._federation,
            rounds=rounds,
            deadline=deadline,
            answer=answer,
            masks=device.Rules(device=self._device, identity=self._journal.own_key()),
            code=self._code,
            epsilon=self._epsilon,
            spread=random.random(),
        )
        if self._settings.exposed:
            self._tell("password_exposed", broker=self._settings.address.endpoint)
        runner = Runner(
            rules, self._participant, self._link, self._journal, self._home, self._coordinator, self._on_turn
        )
        if self.stopped:
            return runner.leave()
        try:
            self._link.open(
                answer,
                self._participant.longest,
                lambda error: self._tell("broker_unreachable", reason=str(error)),
            )
        except TransportError as error:
            if self.stopped:
                return runner.leave()
            ending = runner.ending() if isinstance(error, BrokerUnreachable | DeadlineExceeded) else None
            if ending is None:
                raise
            self._tell("federation_ended", reason=str(error))
            return runner.settle(ending)
        return runner.run()

    def _tell(self, event: str, **values: Any) -> None:
        if self._on_event:
            traffic = {"up": self._link.up, "down": self._link.down}
            self._on_event({"event": event, "time": time.time(), "device": self._device, **values, "bytes": traffic})
