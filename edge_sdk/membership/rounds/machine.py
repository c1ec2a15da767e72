"""A device's part in a federation as a pure state machine: `step(rules, state, event, now) -> (state, actions)`.

No clock, no socket, no disk: `membership.runner` feeds it what arrives and carries out its actions. `moves` draws its
phases. Guarantees, tested by tests/membership/test_machines.py against the coordinator's machine, over a line that
loses, repeats and reorders, with crashes of either side at every step:

- An update that the journal keeps is offered until the coordinator has taken or refused it, or it can count no more.
- A plan whose update is in the journal is not trained again.
- Nobody waits for ever: every phase but training ends by a message, or at `until` with a named reason.

This is the one place that decides what is said, how long an answer is waited for, and when something is said again:

    joining                Join, then again after `REPEAT` seconds, any number of times
    handing_in             the offer again after `REPEAT` seconds, then each time twice as late as before
    waiting, bringing      a Hello after `REPEAT` seconds; after each answer twice as late as before. It shows what
                           repetition shows: whether the coordinator is there and knows the device, whether a step was
                           lost, and whether what others have said in either's name is true

Unanswered hellos are repeated at a growing interval as well. No interval is longer than `LONGEST`, and all but the
first one of an offer are shortened by up to half, by `Rules.spread`, so that many devices do not speak at once.

A coordinator that starts is heard by all devices in the same instant. So Join, and the offer after it, is said at a
moment of each device's own in the next `JITTER` seconds; in twice as many after each Join in vain, as a coordinator may
have fallen under the load of them. A device that finds the coordinator there on its own arrival says Join at once.

`now` is in seconds of any clock that does not jump back; times in the state are of that clock.
"""

from __future__ import annotations

import math
from typing import Any

from msgspec.structs import replace

from edge_sdk.membership.rounds.actions import (
    Action,
    Begin,
    Bring,
    HandIn,
    NobodyThere,
    Note,
    Prepare,
    PutInPlace,
    Restate,
    SayHello,
    SayJoin,
    SayLeave,
    SayOffer,
    Silent,
    Stuck,
    Tell,
    Train,
    TurnedAway,
    Withdraw,
)
from edge_sdk.membership.rounds.events import (
    Alone,
    Delivered,
    Event,
    Failed,
    InPlace,
    Line,
    Opened,
    Stop,
    Stored,
    Tick,
    Trained,
    Vanished,
)
from edge_sdk.membership.rounds.moves import Phase, is_legal
from edge_sdk.membership.rounds.state import Rules, State, Work
from edge_sdk.membership.work import plan_id, without_deadline
from edge_sdk.wire import CoordinatorState, Finished, Offer, Refused, RoundDone, RoundStart, Step, Welcome

# Seconds after which an unanswered Join or Offer is said again, any number of times; the first hello comes as soon.
REPEAT = 10.0
# Seconds in which the devices of a federation say Join when its coordinator has started.
JITTER = 1.0
# Longest time in seconds between two hellos, or two offers of the same update.
LONGEST = 1200.0
# Unanswered repetitions before the coordinator counts as silent: some are lost, and a coordinator may be busy.
PATIENCE = 3
# Seconds to wait for the answer that says whether this very update counts.
CONFIRM = 12.0
# Transfers of adapters that may fail in a row.
FAILURES = 5
# Codes of refusals that may come after an update was committed.
AFTERWARDS = frozenset({"UpdateOutlier", "UpdateLost"})
SHARED = (
    "An update of this device counts, but it is not the one that was trained here: another device has its name and "
    "its home, as of a copied card. Give each a home and a name of its own: in the copy delete device_id and "
    "journal.sqlite."
)
_GOLDEN = 0.6180339887498949  # multiples of it, modulo 1, are spread evenly


def step(rules: Rules, state: State, event: Event, now: float) -> tuple[State, list[Action]]:
    """Return the state after one event, and the actions. Never raises for a message of the coordinator."""
    turn = _Turn(rules, state, now)
    turn.take(event)
    return turn.state, turn.actions


def next_wake(state: State) -> float:
    """Return the time of the next Tick if nothing happens before; infinity if none is needed."""
    if state.phase in ("training", "going_home", "home"):
        return math.inf
    return min(state.until, state.say_at)


class _Turn:
    """One step in progress: the state so far and the actions so far."""

    def __init__(self, rules: Rules, state: State, now: float) -> None:
        self.rules = rules
        self.state = state
        self.now = now
        self.actions: list[Action] = []

    def take(self, event: Event) -> None:
        if _is_answer(event):
            self._answered()
        match event:
            case Opened():
                self._set(until=self.now + self.rules.answer)
            case Line():
                self._line(event)
            case CoordinatorState():
                self._shown(event)
            case Welcome():
                self._welcomed(event)
            case RoundStart() | Finished():
                self._stepped(event)
            case RoundDone():
                self._done(event)
            case Refused():
                self._refused(event)
            case Stored():
                self._stored(event)
            case Delivered():
                self._delivered(event)
            case Failed():
                self._failed(event)
            case Trained():
                self._trained(event)
            case Vanished():
                self._vanished(event)
            case Alone():
                self._alone(event)
            case InPlace():
                self._in_place()
            case Tick():
                self._time_passed()
            case Stop():
                self._stopped()

    # the coordinator ------------------------------------------------------------------------------------------------

    def _shown(self, shown: CoordinatorState) -> None:
        """Take in the coordinator's accepted state. A later start has forgotten transfers, and perhaps this device."""
        before = self.state
        self._set(online=shown.online, epoch=shown.epoch)
        if not shown.online:
            return
        if before.phase == "seeking":
            waited = self.now - (before.until - self.rules.answer)
            self._move("joining")
            self._set(until=self.now + self.rules.answer)
            self._join_soon(waited)
        elif before.phase == "joining" or before.epoch != shown.epoch:
            self._join_soon()
        elif before.phase == "handing_in":
            self._set(vain=0, say_at=min(before.say_at, self.now + self._moment()))
        elif not before.online:
            self._hello_soon()

    def _welcomed(self, welcome: Welcome) -> None:
        if self.state.phase != "joining":
            return
        self._tell("joined", round=welcome.round, rounds=welcome.rounds)
        self._wait()

    def _refused(self, refused: Refused) -> None:
        if not refused.about:  # it does not say which message was refused
            self._tell("message_refused", code=refused.code, reason=refused.reason)
        elif refused.about == "join":
            self.actions.append(TurnedAway(refused))
        elif refused.about == "hello":
            self._say_join()
        elif refused.code in AFTERWARDS and refused.about in self.state.rounds_of:
            rounds_of = dict(self.state.rounds_of)
            self._tell("update_refused", round=rounds_of.pop(refused.about), reason=f"{refused.code}: {refused.reason}")
            self._set(rounds_of=rounds_of)

    def _answered(self) -> None:
        """Note that the coordinator is there; if that was asked for, the next hello comes later than this one."""
        state = self.state
        self._set(answered=True, vain=0, joins=0, asked_at=None)
        if state.asked_at is not None and state.phase in ("waiting", "bringing"):
            self._set(say_at=self._hello_at(state.pause), pause=min(2 * state.pause, LONGEST))

    def _line(self, line: Line) -> None:
        """After a lost connection, what waits for an answer is said again soon: it may have been lost with it."""
        self._set(away=not line.online)
        if not line.online:
            self._set(asked_at=None)
        elif self.state.phase in ("waiting", "bringing"):
            self._hello_soon()
        elif self.state.phase in ("joining", "handing_in"):
            self._set(say_at=min(self.state.say_at, self.now + self._spread(REPEAT)))

    # steps ----------------------------------------------------------------------------------------------------------

    def _stepped(self, step: Step) -> None:
        match self.state.phase:
            case "waiting":
                self._act_on(step)
            case "bringing" | "training":
                self._replaced(step)
            case "handing_in":
                self._overtaken(step)
            case "seeking" | "joining":
                self._set(next=step)

    def _replaced(self, step: Step) -> None:
        """Turn to a newer step; the same one again changes at most the attempt that is answered."""
        known = self.state.step
        assert known is not None, f"there is a step in phase {self.state.phase}"
        if without_deadline(step) == without_deadline(known):
            return
        if isinstance(step, RoundStart) and self.state.phase == "training" and self._plan(step) == self._plan(known):
            self._set(step=step)
        else:
            self._act_on(step)

    def _overtaken(self, step: Step) -> None:
        """Take in a step while an update is offered."""
        work, offer = self._offered()
        if isinstance(step, Finished):
            self._set(next=step)
            if not self.state.counted:
                self._leave_it()
        elif self._plan(step) == work.plan:
            if step.attempt != offer.attempt:  # lower if the coordinator began with a fresh home
                self._restate(work, step.attempt)
                self._set(restated=True)
                self._say_offer()
        else:
            self._set(next=step)
            if self.state.counted:
                return
            if offer.round < step.round <= offer.round + self.state.late:
                self._say_offer()
            else:
                self._leave_it()

    def _act_on(self, step: Step) -> None:
        cluster = step.cluster if step.cluster is not None else self.state.cluster
        self._set(step=step, next=None, cluster=cluster, began=self.now, missing=())
        if isinstance(step, RoundStart) and not self._has_enough():
            self._tell("round_started", round=step.round, rounds=step.rounds, stage=step.stage, cluster=step.cluster)
            last = self.state.outbox
            if last and last.may_count_in(step):  # left over; it comes in place of this round's
                self._tell("update_resumed", round=last.round)
                self._hand_in(late=step.late, instead_of=step)
                return
        self._bring(step)

    def _bring(self, step: Step) -> None:
        self._move("bringing")
        self._set(missing=tuple(step.manifests))
        self._hello_soon()
        self.actions.append(Prepare(step))
        self._bring_next()

    def _bring_next(self) -> None:
        if not self.state.missing:
            self._all_there()
            return
        self._set(until=self.now + self.rules.deadline)
        self.actions.append(Bring(self.state.missing[0], self.rules.deadline))

    def _stored(self, stored: Stored) -> None:
        if self._is_awaited(stored.sha256):
            self._set(missing=self.state.missing[1:])
            self._bring_next()

    def _all_there(self) -> None:
        step = self.state.step
        assert step is not None, "adapters are those of a step"
        self._set(failures=0)
        if isinstance(step, Finished) or self._has_enough():
            self._move("going_home")
            self.actions.append(PutInPlace(step))
            return
        plan = self._plan(step)
        self.actions.append(Begin(plan, step.round))
        if self.state.outbox and self.state.outbox.plan == plan:
            self._tell("update_resumed", round=step.round)
            self._hand_in(late=step.late)
            return
        self._join_first()  # nothing is said in training
        self._move("training")
        left = max(0.0, step.deadline - (self.now - self.state.began))
        self.actions.append(Train(plan, replace(step, deadline=left)))

    # updates --------------------------------------------------------------------------------------------------------

    def _trained(self, trained: Trained) -> None:
        assert self.state.phase == "training", f"nothing is trained in phase {self.state.phase}"
        offer, start = trained.offer, self.state.step
        assert isinstance(start, RoundStart), "a round is trained for"
        self._set(outbox=Work(trained.plan, offer.round, "trained", offer))
        self._tell("trained", round=offer.round, **offer.stats.figures())
        self._hand_in(late=start.late)

    def _hand_in(self, *, late: int = 0, instead_of: RoundStart | None = None, counted: bool = False) -> None:
        """Offer the last update.

        Args:
            late: rounds after its own in which it may count.
            instead_of: the open round, if it is a later one; it is turned to if the update is refused.
            counted: see `State`.
        """
        self._join_first()
        work, offer = self._offered()
        start = self.state.step
        if not counted and isinstance(start, RoundStart) and self._plan(start) == work.plan:
            self._restate(work, start.attempt)
        self._move("handing_in")
        self._set(late=late, next=instead_of, restated=False, counted=counted, vain=0)
        self._progress("offered")
        self._set(
            until=self.now + (CONFIRM if counted else self.rules.deadline), say_at=self.now + REPEAT, asked_at=None
        )
        work, offer = self._offered()
        self.actions.append(HandIn(work.plan, offer))

    def _done(self, done: RoundDone) -> None:
        """Take in the end of a round, which says whether an update of this device counted in it.

        It may be another's, of a device with the same name: if the own one was not answered, its answer is asked for.
        """
        self._tell("round_done", round=done.round, accepted=done.accepted, updates=done.updates)
        if self.state.phase == "handing_in":
            self._done_meanwhile(done)
        elif self.state.phase == "waiting":
            self._set(until=self.now + self.rules.deadline)
            last = self.state.outbox
            if done.accepted and last and last.progress == "offered" and last.round <= done.round:
                self._set(step=None)
                self._hand_in(counted=True)

    def _done_meanwhile(self, done: RoundDone) -> None:
        _, offer = self._offered()
        if done.round < offer.round:
            return
        if isinstance(self.state.next, RoundStart) and self.state.next.round <= done.round:
            self._set(next=None)
        if done.accepted:
            self._set(counted=True, until=self.now + CONFIRM)
            self._say_offer()
        elif done.round >= offer.round + self.state.late:
            self._leave_it()

    def _delivered(self, delivered: Delivered) -> None:
        if self._is_offered(delivered.sha256):
            if not self.state.counted:  # a newer round that came meanwhile is the one in which it counts
                self._set(next=None)
            self._is_committed()

    def _is_committed(self) -> None:
        work, offer = self._offered()
        self._progress("committed")
        self._set(rounds_of={**self.state.rounds_of, offer.manifest.sha256: offer.round})
        if work.plan not in self.state.committed:
            self._set(committed=self.state.committed | {work.plan})
            self._tell("update_committed", round=offer.round, size=offer.manifest.size)
        self._leave_it()

    def _failed(self, failed: Failed) -> None:
        if self._is_offered(failed.sha256):
            self._is_refused(failed)
        elif self._is_awaited(failed.sha256):
            # Most likely the round is over, and its adapters are gone. Join brings the present step.
            self._set(failures=self.state.failures + 1)
            if self.state.failures > FAILURES:
                self.actions.append(Stuck(failed.error))
                return
            self._tell("transfer_failed", reason=str(failed.error))
            self._wait()
            self._say_join()

    def _is_refused(self, failed: Failed) -> None:
        """Take in a refusal of the offer; the first one after a new attempt may be of the former attempt."""
        work, offer = self._offered()
        if self.state.restated:
            self._join_first()
            self._set(restated=False, say_at=self.now + REPEAT)
            self.actions.append(HandIn(work.plan, offer))
            return
        self._progress("refused")
        self._tell("update_refused", round=offer.round, reason=str(failed.error))
        if self.state.counted:
            self._tell("identity_shared", round=offer.round, reason=SHARED)
        self._leave_it()

    def _vanished(self, vanished: Vanished) -> None:
        """Do the work anew whose update is lost, or that it was to come in place of."""
        known = self.state.outbox
        if self.state.phase != "handing_in" or known is None or known.plan != vanished.plan:
            return
        step = self.state.step
        self._set(outbox=None)
        if self.state.counted or not isinstance(step, RoundStart):
            self._wait()
        else:
            self._set(next=None)
            self._bring(step)

    def _leave_it(self) -> None:
        """End the handing in: the update is settled, or it can count no more."""
        _, offer = self._offered()
        self.actions.append(Withdraw(offer.manifest.sha256))
        self._wait()

    def _restate(self, work: Work, attempt: int) -> None:
        """Make the offer one for this attempt, as the round may have been abandoned and opened again."""
        assert work.offer is not None, "it is offered"
        if work.offer.attempt != attempt:
            offer = replace(work.offer, attempt=attempt)
            self._set(outbox=replace(work, offer=offer))
            self.actions.append(Restate(work.plan, offer))

    def _progress(self, progress: str) -> None:
        """Note the progress of the last update. One that is committed stays so, whatever comes later."""
        work, _ = self._offered()
        if work.progress not in ("committed", progress):
            self._set(outbox=replace(work, progress=progress))
            self.actions.append(Note(work.plan, progress))  # type: ignore[arg-type]

    # waiting, and the end -------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for the next step, or turn to the one that has come meanwhile."""
        self._move("waiting")
        self._set(until=self.now + self.rules.deadline, step=None, missing=())
        self._hello_soon()
        if (step := self.state.next) is not None:
            self._act_on(step)

    def _alone(self, alone: Alone) -> None:
        if self.state.phase in ("seeking", "joining"):
            self._set(step=alone.ending, cluster=alone.ending.cluster, online=False)
            self._move("going_home")
            self.actions.append(PutInPlace(alone.ending))

    def _in_place(self) -> None:
        self._move("home")
        reason = "finished" if self.state.finished else "took part in as many rounds as it wanted"
        self.actions.append(SayLeave(reason))

    def _stopped(self) -> None:
        """End the membership as it is. What the journal keeps is for the next one."""
        if self.state.phase == "home":
            return
        if self.state.phase != "seeking":  # nothing was said before
            self.actions.append(SayLeave("stopped by its owner"))
        self._move("home")

    def _time_passed(self) -> None:
        state = self.state
        if self.now >= state.until:
            self._waited_long_enough()
        elif self.now >= state.say_at:
            if state.away:  # saying would wait for the connection; `_line` sees to it when it is back
                self._set(say_at=self.now + REPEAT)
            elif state.phase == "joining":
                self._say_join()
            elif state.rejoin:
                self._say_join()
                if state.phase == "handing_in":
                    self._say_offer()
            elif state.phase == "handing_in":
                self._say_offer(again=True)
            elif state.phase in ("waiting", "bringing"):
                self._say_hello()

    def _waited_long_enough(self) -> None:
        match self.state.phase:
            case "seeking":
                self.actions.append(NobodyThere(self.rules.answer))
            case "joining":
                self.actions.append(Silent("did not answer Join", self.rules.answer))
            case "waiting":
                self.actions.append(Silent("did not go on", self.rules.deadline))
            case "bringing":
                self.actions.append(Silent("did not send its adapters", self.rules.deadline))
            case "handing_in" if self.state.counted:  # without an answer, the end of its round is the best evidence
                self._is_committed()
            case "handing_in":
                _, offer = self._offered()
                self.actions.append(Silent(f"did not take the update of round {offer.round}", self.rules.deadline))

    # saying ---------------------------------------------------------------------------------------------------------

    def _join_soon(self, longest: float = math.inf) -> None:
        """Say Join at a moment of this device's own, within `longest` seconds at most; an offer follows it.

        In training at once, as nothing is said before its end.
        """
        if longest <= 0 or self.state.phase == "training":
            self._say_join()
        else:
            self._set(rejoin=True, say_at=min(self.state.say_at, self.now + self._moment(longest)))

    def _join_first(self) -> None:
        """Say Join now if it is to be said: a coordinator that has lost its memory takes no offer of a stranger."""
        if self.state.rejoin:
            self._say_join()

    def _say_join(self) -> None:
        self.actions.append(SayJoin())
        self._asked()
        self._set(rejoin=False, joins=self.state.joins + 1, pause=REPEAT)
        if self.state.phase != "handing_in":  # there the offer is said next
            self._set(say_at=self.now + self._spread(REPEAT))

    def _say_offer(self, *, again: bool = False) -> None:
        """Say the offer.

        Args:
            again: true if nothing has changed since it was said last; while no round is open, it may get no answer.
        """
        self._join_first()
        self.actions.append(SayOffer(self._offered()[1]))
        vain = self.state.vain + 1 if again else 0
        self._set(vain=vain, say_at=self.now + (self._spread(_growing(vain)) if again else REPEAT))

    def _say_hello(self) -> None:
        number = self.state.hellos + 1
        self.actions.append(SayHello(number))
        pause = _growing(self.state.vain)
        self._set(hellos=number, vain=self.state.vain + 1)
        self._asked()
        self._set(say_at=self.now + self._spread(pause))

    def _hello_soon(self) -> None:
        self._set(say_at=self._hello_at(REPEAT), pause=min(2 * REPEAT, LONGEST), vain=0)

    def _hello_at(self, pause: float) -> float:
        """Return the time of the next hello after a pause, or of the Join that is to be said before it."""
        at = self.now + self._spread(pause)
        return min(at, self.state.say_at) if self.state.rejoin else at

    def _asked(self) -> None:
        if self.state.asked_at is None:
            self._set(asked_at=self.now)

    def _spread(self, seconds: float) -> float:
        """Return the seconds, shortened by up to half."""
        return seconds * (0.5 + 0.5 * self._fraction())

    def _moment(self, longest: float = math.inf) -> float:
        """Return the seconds to a moment of this device's own, soon after the coordinator has shown itself."""
        window = min(longest, JITTER * 2.0 ** min(self.state.joins, 64), self.rules.answer / 4, REPEAT)
        return window * self._fraction()

    def _fraction(self) -> float:
        """Return a number from 0 to 1 of this device's own, another one after each Hello and Join."""
        return (self.rules.spread + (self.state.hellos + self.state.joins) * _GOLDEN) % 1.0

    # helpers --------------------------------------------------------------------------------------------------------

    def _plan(self, step: Step) -> str:
        assert isinstance(step, RoundStart), "only a round has a plan"
        return plan_id(self.rules.federation, step)

    def _has_enough(self) -> bool:
        return self.rules.rounds is not None and len(self.state.committed) >= self.rules.rounds

    def _offered(self) -> tuple[Work, Offer]:
        work = self.state.outbox
        assert work is not None, "there is an update"
        assert work.offer is not None, "it is trained"
        return work, work.offer

    def _is_offered(self, sha256: str) -> bool:
        return self.state.phase == "handing_in" and self._offered()[1].manifest.sha256 == sha256

    def _is_awaited(self, sha256: str) -> bool:
        missing = self.state.missing
        return self.state.phase == "bringing" and bool(missing) and missing[0].sha256 == sha256

    def _move(self, phase: Phase) -> None:
        assert is_legal(self.state.phase, phase), f"no move from {self.state.phase} to {phase}"
        self._set(phase=phase)

    def _set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)

    def _tell(self, event: str, **values: Any) -> None:
        self.actions.append(Tell(event, values))


def _growing(vain: int) -> float:
    """Return the seconds to wait after so many messages without an answer."""
    return min(REPEAT * 2.0 ** min(vain, 64), LONGEST)


def _is_answer(event: Event) -> bool:
    """Return True if an event shows that the coordinator is there; its state may be a leftover on the broker."""
    if isinstance(event, Stored):
        return event.anew
    return isinstance(event, Welcome | RoundStart | Finished | RoundDone | Refused | Delivered | Failed)
