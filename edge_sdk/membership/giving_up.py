"""Errors with which a membership gives up: each says what is wrong and what to do next."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.errors import DeadlineExceeded, ImpastoError, Rejected, UnknownFederation
from edge_sdk.membership.rounds import GiveUp, NobodyThere, Silent, Stuck, TurnedAway
from edge_sdk.wire import CoordinatorState, shown


@dataclass(frozen=True)
class Circumstances:
    """Facts about the line and the coordinator at the moment of giving up.

    Attributes:
        federation: name of the federation.
        away: True while there is no connection to the broker.
        trouble: the last trouble on the line in words; empty if there was none.
        state: the coordinator's last accepted state; None before the first one.
        untrusted: the error for the last state that was refused; None if there was none.
        answered: True once the coordinator has sent anything but its state.
        unanswered: seconds since the first unanswered Join or Hello, see `rounds.unanswered`.
    """

    federation: str
    away: bool
    trouble: str
    state: CoordinatorState | None
    untrusted: ImpastoError | None
    answered: bool
    unanswered: float

    @property
    def last_trouble(self) -> str:
        trouble = str(self.untrusted or self.trouble)
        return f" Last trouble: {trouble}" if trouble else ""


def error_of(given_up: GiveUp, facts: Circumstances) -> ImpastoError:
    """The error for a reason to give up."""
    match given_up:
        case NobodyThere(seconds):
            return facts.untrusted or _nobody_there(seconds, facts)
        case Silent(what, seconds):
            return _silence(what, seconds, facts)
        case TurnedAway(refused):
            return Rejected(f"Federation {facts.federation!r} refused this device ({refused.code}): {refused.reason}")
        case Stuck(error):
            return error


def _nobody_there(seconds: float, facts: Circumstances) -> UnknownFederation:
    state = "is offline" if facts.state else "does not exist"
    return UnknownFederation(
        f"The coordinator of federation {facts.federation!r} {state} on this broker (waited {seconds:g} s). "
        "Check the federation's name, or start it with `impasto-coordinator serve`; if it runs, the "
        "broker's rules may keep this device from hearing it: let `impasto doctor` look at them."
        f"{facts.last_trouble}"
    )


def _silence(what: str, seconds: float, facts: Circumstances) -> DeadlineExceeded:
    if facts.away:
        return DeadlineExceeded(
            f"There is no connection to the broker, so that the coordinator of {facts.federation!r} {what} within "
            f"{seconds:g} s.{facts.last_trouble} Run again to resume; what was trained is kept."
        )
    online = facts.state is not None and facts.state.online
    if facts.state and online and (not facts.answered or facts.unanswered):
        since = f" for {facts.unanswered:.0f} s" if facts.unanswered else ""
        return DeadlineExceeded(
            f"The coordinator of {facts.federation!r} {what} within {seconds:g} s. Its sign on the broker says "
            f"that it is online since {shown(facts.state.epoch)}, but nothing else was heard of it{since}: it may have "
            f"ended without a word{_or_is_older(facts)}.{facts.last_trouble} Start `impasto-coordinator serve` again, "
            "or let `impasto doctor` look at the broker's rules."
        )
    return DeadlineExceeded(
        f"The coordinator of {facts.federation!r} ({'online' if online else 'offline'}) {what} within {seconds:g} s."
        f"{facts.last_trouble} Run again to resume; what was trained is kept."
    )


def _or_is_older(facts: Circumstances) -> str:
    """A further cause if the coordinator has never answered: it does not answer a Join that it cannot read."""
    return "" if facts.answered else ", or be of an earlier version than this device (docs/protocol.md, section 8)"
