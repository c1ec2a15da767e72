"""Trust in the coordinator: a device accepts only signed states and steps, and none older than those before.

Steps are ordered by the coordinator's epoch, then by round; the last step, which ends all rounds, is newer than any
round. The same step may come again, as a coordinator repeats it after a lost connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from edge_sdk.errors import (
    CoordinatorUntrusted,
    ImpastoError,
    MessageInvalid,
    MessageOutdated,
    SignatureInvalid,
    WireError,
)
from edge_sdk.membership.journal import Journal
from edge_sdk.secure_aggregation import SUMMABLE
from edge_sdk.wire import (
    ClusterStart,
    CoordinatorState,
    Finished,
    RoundStart,
    SignedStep,
    SignedSum,
    Step,
    Sum,
    clock_trouble,
    fingerprint,
    recognised,
    verified,
    verified_sum,
)

_AFTER_ALL_ROUNDS = 2**31 - 1

_T = TypeVar("_T")


class Acquaintance:
    """A device's knowledge of the coordinator of `federation`.

    Args:
        device: the device's name, to which steps are addressed.
        journal: the journal with the trusted key, and the newest epoch and round.
        tell: called with the name and the values of each event worth showing.

    Attributes:
        state: the coordinator's last accepted state; None before the first one.
        untrusted: the error for the last state that was refused; None if there was none.
    """

    def __init__(self, federation: str, device: str, journal: Journal, tell: Callable[..., None]) -> None:
        self.state: CoordinatorState | None = None
        self.untrusted: ImpastoError | None = None
        self._federation = federation
        self._device = device
        self._journal = journal
        self._tell = tell

    @property
    def online(self) -> bool:
        return self.state is not None and self.state.online

    def accepted(self, heard: _T) -> _T | Step | Sum | None:
        """Check a message and return it, a signed step or sum as its content; None if it is refused or comes too early.

        Messages that need no signature are returned as they are.
        """
        match heard:
            case CoordinatorState():
                return heard if self._meets(heard) else None
            case SignedStep() | RoundStart() | ClusterStart() | Finished():
                try:
                    return self._opened(heard)
                except WireError as error:
                    self._tell("step_refused", code=type(error).__name__, reason=str(error))
                    return None
            case SignedSum() | Sum():
                try:
                    return self._said(heard)
                except WireError as error:
                    self._tell("sum_refused", code=type(error).__name__, reason=str(error))
                    return None
        return heard

    def _said(self, heard: SignedSum | Sum) -> Sum | None:
        """The message of a masked sum, if it is signed for this device; None while no key is trusted."""
        if not isinstance(heard, SignedSum):
            raise SignatureInvalid(
                "A message of a masked sum came without any signature: nothing comes of it. Somebody else can write on "
                "this device's topics; tell the operator of the broker."
            )
        key = self._journal.trusted_key
        return None if key is None else verified_sum(heard, key, self._federation, self._device)

    def _meets(self, state: CoordinatorState) -> bool:
        """Take in a coordinator's state; True if it is accepted."""
        known, (epoch, _) = self._journal.trusted_key, self._journal.heard
        try:
            key = recognised(known, state, self._federation)
            if known is not None and state.epoch < epoch:
                if not state.online:
                    return False  # a late will of an earlier epoch
                raise self._outdated(f"start {state.epoch}")
        except (CoordinatorUntrusted, WireError) as error:
            self.untrusted = error
            self._tell("coordinator_untrusted", code=type(error).__name__, reason=str(error))
            return False
        # An offline state may be a leftover on the broker: only a coordinator that is online is trusted as the first.
        if known is not None or state.online:
            if known != key:
                self._journal.trust(key) if known is None else self._journal.follow(key)
                self._tell("coordinator_trusted", key=fingerprint(key))
            self._note(state.epoch, 0)
            self._journal.claim(self._federation, self._device)
        if self.state is None and (reason := clock_trouble(state.epoch, time.time())):
            self._tell("clock_suspect", reason=reason)
        if state != self.state:
            self._tell("coordinator_online" if state.online else "coordinator_offline", epoch=state.epoch)
        self.state = state
        return True

    def _opened(self, said: SignedStep | Step) -> Step | None:
        """The step, if it is signed for this device and no older than the newest; None while no key is trusted."""
        if not isinstance(said, SignedStep):
            raise SignatureInvalid(
                f"A {type(said).__name__} came without any signature: nothing comes of it. Somebody else can write on "
                "this device's topics; tell the operator of the broker."
            )
        key = self._journal.trusted_key
        if key is None:  # its state has not come yet, and it will repeat the step
            return None
        step = verified(said, key, self._federation, self._device)
        if isinstance(step, RoundStart) and step.masking is not None and step.share not in SUMMABLE:
            raise MessageInvalid(
                f"Round {step.round} asks for a masked sum of what devices train as {step.share.value!r}: there are "
                "sums of the factors A, B or both only. Tell the operator of the federation, or update this SDK."
            )
        number = _number_of(step)
        if (said.epoch, number) < self._journal.heard:
            what = "the end" if isinstance(step, Finished) else f"round {number}"
            raise self._outdated(f"{what} of start {said.epoch}")
        self._note(said.epoch, number)
        return step

    def _note(self, epoch: int, number: int) -> None:
        if (epoch, number) > self._journal.heard:
            self._journal.note_heard(epoch, number)

    def _outdated(self, what: str) -> MessageOutdated:
        epoch, number = self._journal.heard
        since = "the end" if number == _AFTER_ALL_ROUNDS else f"round {number}"
        return MessageOutdated(
            f"The coordinator of {self._federation!r} has said {what}, but {since} of start {epoch} before: what is "
            "older is not listened to. It came late, or somebody repeats it. If its operator says that it was set up "
            "anew with a clock that goes behind, move journal.sqlite out of this device's home and join afresh."
        )


def _number_of(step: Step) -> int:
    """A step's place in the order of rounds; the questions of a clustering come before the first one."""
    match step:
        case RoundStart(round=number):
            return number
        case ClusterStart():
            return 0
    return _AFTER_ALL_ROUNDS
