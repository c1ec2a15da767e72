"""The state of a membership, and the rules of its rounds. Both live as long as a session; the journal outlives it."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec

from edge_sdk.membership.rounds.moves import Phase
from edge_sdk.privacy import Answered, Spent
from edge_sdk.secure_aggregation import device
from edge_sdk.wire import Finished, Manifest, Offer, RoundStart, Step

Progress: TypeAlias = Literal["begun", "trained", "offered", "committed", "refused"]


class Work(msgspec.Struct, frozen=True):
    """A plan and this device's progress with it; `offer` is set from "trained" on."""

    plan: str
    round: int
    progress: Progress
    offer: Offer | None

    def may_count_in(self, start: RoundStart) -> bool:
        """True if its update, of an earlier round, may still count in the round of `start` instead of a new one."""
        return self.progress in ("trained", "offered") and self.round < start.round <= self.round + start.late


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Rules of one membership.

    Attributes:
        federation: name of the federation.
        rounds: committed updates after which the device leaves; None stays to the end.
        deadline: longest wait in seconds for the coordinator's next step.
        answer: longest wait in seconds for the coordinator to show itself, and to answer Join.
        masks: this device's name and identity in masked sums; None: it takes part in none.
        code: its code, by which it chooses its cluster and answers questions; empty: its owner does not allow that.
        epsilon: the largest epsilon of all its answers with noise that its owner allows; 0: none.
        spread: a number from 0 to 1, drawn for each session, so that many devices do not speak at once.
    """

    federation: str
    rounds: int | None = None
    deadline: float = 3600.0
    answer: float = 30.0
    masks: device.Rules | None = None
    code: bytes = b""
    epsilon: float = 0.0
    spread: float = 0.0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a membership.

    Attributes:
        phase: its phase, see `moves`.
        until: time at which the present wait is given up.
        say_at: time at which Join, Hello or Offer is said (again).
        rejoin: true if Join is to be said at `say_at`, before anything else.
        joins: Joins in a row without an answer.
        away: true while there is no connection to the broker.
        online: true if the coordinator's state says that it is online.
        epoch: epoch of the coordinator's state; None before the first one.
        answered: true once the coordinator has sent anything but its state.
        asked_at: time of the first Join or Hello since the last answer; None if none is unanswered.
        vain: hellos, or repeated offers, in a row without an answer.
        pause: seconds until the next hello after an answer; grows with every answer.
        hellos: hellos said so far.
        step: the step that is worked on; None if there is none.
        next: the newest step that waits until an update is settled; None if there is none.
        began: time at which the device has turned to `step`.
        missing: adapters of the step that are still to come, the present one first.
        failures: transfers of adapters that have failed in a row.
        outbox: the last update in the journal and its plan; None if there is none.
        late: rounds after its own in which the offered update may count.
        restated: true if the offer was made anew for another attempt, so that a refusal may be of the former one.
        counted: true if the coordinator has said that an update of this device counts; only the answer to this offer
            tells whether it is this very one.
        committed: plans whose update was committed in this session.
        rounds_of: hash of each update that was committed in this session -> its round.
        sum: this device's part in a masked sum; it outlives the session, as the update does.
        answered_last: the last sum of a clustering that it has agreed to; it outlives the session, too.
        spent: the privacy budget that its answers with noise have spent; it outlives the session, too.
        stored: true if the coordinator has stored its masked vector.
        cluster: the device's cluster; None if it has none yet.
    """

    phase: Phase = "seeking"
    until: float = math.inf
    say_at: float = math.inf
    rejoin: bool = False
    joins: int = 0
    away: bool = False
    online: bool = False
    epoch: int | None = None
    answered: bool = False
    asked_at: float | None = None
    vain: int = 0
    pause: float = 0.0
    hellos: int = 0
    step: Step | None = None
    next: Step | None = None
    began: float = 0.0
    missing: tuple[Manifest, ...] = ()
    failures: int = 0
    outbox: Work | None = None
    late: int = 0
    restated: bool = False
    counted: bool = False
    committed: frozenset[str] = frozenset()
    rounds_of: dict[str, int] = {}
    sum: device.State = device.State()
    answered_last: Answered = Answered()
    spent: Spent = Spent()
    stored: bool = False
    cluster: int | None = None

    @property
    def finished(self) -> bool:
        """True if the step that is worked on is the last one."""
        return isinstance(self.step, Finished)
