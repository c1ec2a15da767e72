"""One drawing's request to the helpers of a federation, without I/O: what was heard goes in, what is to be said out.

    looking ──a helper fits──> asked ──Queued──> waiting ──Drawn──> fetching ──checked──> answered
       ^                         │                  │                  │
       └──── the next helper ────┴── Busy, Refused, silence, a wrong answer, gone

It never waits: its owner draws meanwhile, and stops it when the answer is of no use any more. Times are seconds of a
clock that does not jump back. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from edge_sdk.errors import (
    AssistDeclined,
    DeadlineExceeded,
    HelperBusy,
    HelperRefused,
    ImpastoError,
    MessageOutdated,
    NoHelper,
    StateInvalid,
    StateMismatch,
)
from edge_sdk.inference import Course, DrawingState, read_state
from edge_sdk.membership import Identity
from edge_sdk.wire import Exchange, Failed, Pull, Received, Refused, assist, exchange

_REPEAT = 3.0  # seconds after which a request that nobody has answered is sent again
_ASK_AGAIN = 15.0  # the same, once it waits in a queue
_TRIES = 3
_LOOK_AROUND = 0.3  # seconds after the first helper has shown itself, so that the fastest is asked

Said: TypeAlias = tuple[str, assist.AssistMessage]
"""A helper's name, and what to say to it."""


@dataclass(frozen=True)
class Wanted:
    """The drawing that help is wanted for.

    Attributes:
        course: the drawing's course.
        form: what stands for the prompt.
        pixels: width times height.
        room: bytes that its state may have.
        plan: called with a helper's state; returns the number of steps to ask for, or None if that cannot be told yet;
            raises AssistDeclined if that helper is of no use.
        worth: called with a helper's state, the steps asked for and the seconds that it announces; raises
            AssistDeclined if that takes too long.
        drawing: makes the request for so many steps.
        check: called with an answer; raises StateMismatch or StateInvalid.
        done: called for the number of steps that the device has done by itself.
    """

    course: Course
    form: assist.Form
    pixels: int
    room: int
    plan: Callable[[assist.HelperState], int | None]
    worth: Callable[[assist.HelperState, int, float], None]
    drawing: Callable[[int], assist.Drawing]
    check: Callable[[DrawingState], None]
    done: Callable[[], int]


@dataclass
class _Open:
    """The request that is under way."""

    helper: assist.HelperState
    steps: int
    ask: assist.Ask
    name: str
    asker: assist.Asker
    exchange: Exchange
    again: float
    tries: int = 1
    heard: bool = False


class Asking:
    """The request for one drawing.

    Args:
        identity: the device.
        wanted: the drawing.
        deadline: time at which to give up.

    Attributes:
        answer: the state that a helper has drawn, checked; None as long as there is none.
        helper: the name of the helper that has drawn it.
    """

    def __init__(self, identity: Identity, wanted: Wanted, deadline: float) -> None:
        self.answer: DrawingState | None = None
        self.helper = ""
        self._identity = identity
        self._wanted = wanted
        self._deadline = deadline
        self._candidates: dict[str, assist.HelperState] = {}
        self._tried: set[str] = set()
        self._failure: ImpastoError | None = None
        self._trouble: ImpastoError | None = None
        self._open: _Open | None = None
        self._ended = False
        self._first_seen: float | None = None

    @property
    def reason(self) -> ImpastoError:
        """The error for which there is no answer, as far as is known."""
        if self._trouble is not None:
            return self._trouble
        if self._failure is not None:
            return self._failure
        if self.answer is not None:
            return _late(self.helper, "had not drawn its steps")
        if self._open is not None:
            what = "had not drawn its steps" if self._open.heard else "had not answered"
            return _late(self._open.helper.helper, what)
        return NoHelper(
            f"No helper of {self._identity.federation!r} with this bundle had shown itself when the device was as far "
            "by itself: see that `impasto-coordinator assist` runs."
        )

    def on_state(self, helper: str, state: assist.HelperState) -> None:
        """Take in a helper's state. One that does not fit is not asked; one that goes is not waited for.

        Raises:
            HelperUntrusted: nobody vouches for it; nothing changes.
        """
        assist.check_helper(state, self._identity.trusted, self._identity.federation, helper)
        known = self._candidates.get(helper)
        if known is not None and state.epoch < known.epoch:
            return  # a late will of an earlier start
        under_way = self._open is not None and self._open.helper.helper == helper
        if under_way and (not state.online or (known is not None and state.epoch > known.epoch)):
            self._fail(NoHelper(f"Helper {helper!r} has gone while it drew."))
        self._candidates[helper] = state
        if state.online and known is not None and state.epoch > known.epoch:
            self._tried.discard(helper)

    def on_message(self, helper: str, message: assist.AssistMessage, now: float) -> list[Said]:
        """Take in a message of a helper, and return the answers."""
        at = self._open
        if at is None or helper != at.helper.helper:
            return []
        match message:
            case assist.Queued(request=at.name, seconds=seconds):
                at.heard, at.again = True, now + _ASK_AGAIN
                try:
                    self._wanted.worth(at.helper, at.steps, seconds)
                except AssistDeclined as error:
                    return self._fail(error)
            case assist.Busy(request=at.name):
                return self._fail(HelperBusy(f"Helper {helper!r} has no room: {message.reason}"))
            case Refused(about=at.name) | Refused(about=""):
                return self._fail(HelperRefused(f"Helper {helper!r} refuses ({message.code}): {message.reason}"))
            case assist.Drawn():
                return self._drawn(at, message, now)
            case Refused() | Pull():
                return self._carry_out(at, at.exchange.on_message(message, now))
        return []

    def on_chunk(self, helper: str, payload: bytes, now: float) -> list[Said]:
        """Take in a chunk of an answer, and return what to say.

        Raises:
            TransferError: it is no chunk of the answer; nothing changes.
        """
        at = self._open
        if at is None or helper != at.helper.helper:
            return []
        return self._carry_out(at, at.exchange.on_chunk(payload, now))

    def note(self, error: ImpastoError) -> None:
        """Note an error that ends nothing, but is the reason if nothing comes of the request."""
        self._trouble = error

    def tick(self, now: float) -> list[Said]:
        """Do what is due, and return what to say."""
        if self.answer is not None or self._ended:
            return []
        if now >= self._deadline:
            self._ended = True
            late = DeadlineExceeded("No helper's answer came before the request's deadline.")
            return self._fail(late) if self._open is not None else []
        if self._open is None:
            return self._ask(now)
        at = self._open
        if self._wanted.done() >= at.steps:
            self._ended = True
            return self._fail(self.reason)
        said = self._carry_out(at, at.exchange.tick(now))
        if self._open is at and now >= at.again:
            if not at.heard and at.tries >= _TRIES:
                return [*said, *self._fail(DeadlineExceeded(f"Helper {at.helper.helper!r} does not answer."))]
            at.tries += 1
            at.again = now + (_ASK_AGAIN if at.heard else _REPEAT)
            said.append((at.helper.helper, at.ask))
        return said

    def stop(self) -> list[Said]:
        """Want nothing any more; return what to say."""
        at, self._ended = self._open, True
        if at is None or self.answer is not None:
            return []
        return [(at.helper.helper, at.asker.cancel(at.name))]

    def _ask(self, now: float) -> list[Said]:
        """Ask the fastest helper that fits and was not asked before."""
        if self._candidates and self._first_seen is None:
            self._first_seen = now
        if self._first_seen is None or now < self._first_seen + _LOOK_AROUND:
            return []
        ready = [state for name, state in self._candidates.items() if state.online and name not in self._tried]
        for state in sorted(ready, key=lambda state: state.seconds):
            try:
                self._check_fits(state)
                steps = self._wanted.plan(state)
            except (AssistDeclined, StateMismatch, NoHelper) as error:
                self._failure = error
                self._tried.add(state.helper)
                continue
            if steps is None or self._wanted.done() >= steps:
                return []
            identity = self._identity
            asker = assist.Asker(identity.key, identity.federation, identity.device, state.helper, state.key)
            ask = asker.ask(self._wanted.drawing(steps))
            self._open = _Open(
                state, steps, ask, assist.request_id(ask.drawing), asker, Exchange(max_bytes=self._wanted.room),
                now + _REPEAT,
            )  # fmt: skip
            return [(state.helper, ask)]
        return []

    def _check_fits(self, state: assist.HelperState) -> None:
        for name in ("base_id", "variant", "schedule"):
            theirs, ours = getattr(state, name), getattr(self._wanted.course, name)
            if theirs != ours:
                raise StateMismatch(
                    f"Helper {state.helper!r} has another bundle ({name} {theirs[:70]}) than this device "
                    f"({ours[:70]}): give both the same."
                )
        if self._wanted.form not in state.forms:
            raise NoHelper(f"Helper {state.helper!r} takes no requests of form {self._wanted.form!r}.")
        if self._wanted.pixels > state.largest:
            raise NoHelper(f"Helper {state.helper!r} draws at most {state.largest} pixels.")

    def _drawn(self, at: _Open, drawn: assist.Drawn, now: float) -> list[Said]:
        assist.check_drawn(drawn, at.helper, self._identity.device)
        if drawn.request != at.name:
            raise MessageOutdated(
                f"Helper {at.helper.helper!r} answers another request than the present one: nothing comes of it. It "
                "came late, or somebody repeats it."
            )
        at.heard, at.again = True, now + _ASK_AGAIN
        if drawn.manifest.role != "state" or drawn.manifest.size > self._wanted.room:
            return self._fail(StateInvalid(f"Helper {at.helper.helper!r} offers {drawn.manifest.size} bytes as state."))
        return self._carry_out(at, at.exchange.fetch(drawn.manifest, now, self._deadline))

    def _carry_out(self, at: _Open, effects: list[exchange.Effect]) -> list[Said]:
        said: list[Said] = []
        for effect in effects:
            match effect:
                case exchange.Send(message):
                    said.append((at.helper.helper, message))
                case Received(manifest, data):
                    said += self._received(at, manifest.sha256, data)
                case Failed(_, error):
                    said += self._fail(error)
        return said

    def _received(self, at: _Open, sha256: str, data: bytes) -> list[Said]:
        try:
            state = read_state(data)
            self._wanted.check(state)
            if state.step != at.steps:
                raise StateInvalid(f"Helper {at.helper.helper!r} has drawn {state.step} steps, not {at.steps}.")
        except (StateInvalid, StateMismatch) as error:
            return self._fail(error)
        self.answer, self.helper = state, at.helper.helper
        return [(at.helper.helper, message) for message in _messages(at.exchange.commit(sha256))]

    def _fail(self, error: ImpastoError) -> list[Said]:
        """End the request to this helper; the next tick asks another one."""
        at, self._open = self._open, None
        self._failure = error
        if at is None:
            return []
        self._tried.add(at.helper.helper)
        refused = isinstance(error, HelperBusy | HelperRefused)
        return [] if refused else [(at.helper.helper, at.asker.cancel(at.name))]


def _late(helper: str, what: str) -> DeadlineExceeded:
    return DeadlineExceeded(f"Helper {helper!r} {what} when the device was as far by itself.")


def _messages(effects: list[exchange.Effect]) -> list[assist.AssistMessage]:
    return [effect.message for effect in effects if isinstance(effect, exchange.Send)]
