"""The thread of a helper that draws: requests of a kind together, each left at the next step once nobody wants it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from coordinator.assist.bank import Bank
from coordinator.assist.reading import order
from coordinator.assist.requests import Request
from coordinator.worker_thread import WorkerThread
from edge_sdk.errors import ImpastoError, RequestInvalid
from edge_sdk.inference import Generator, Joint, JointDrawing, Order


@dataclass(frozen=True)
class Drawn:
    """The end of a drawing.

    Attributes:
        data: the state's bytes; None if there is none.
        seconds: that a step took, on average; a drawing's share of them, if others were drawn with it.
        error: the reason why there is no state; None also if the drawing was stopped.
        fault: an unexpected error, which ends the helper.
    """

    data: bytes | None = None
    seconds: float = 0.0
    error: ImpastoError | None = None
    fault: Exception | None = None


@dataclass
class _UnderWay:
    """A request that is being drawn. seconds: its share of those that its steps took."""

    request: Request
    order: Order
    drawing: JointDrawing
    seconds: float


class Drawer:
    """Draws the first steps of requests; one that is handed over while others are drawn joins them.

    Args:
        generator: the bundle's generator.
        bank: the adapters.
        done: called on the thread with a request and its end.
    """

    def __init__(self, generator: Generator, bank: Bank, done: Callable[[Request, Drawn], None]) -> None:
        self._generator = generator
        self._bank = bank
        self._done = done
        self._thread = WorkerThread("impasto-assist", self._work)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, request: Request) -> None:
        """Hand a request over, of the kind of those that are being drawn."""
        self._thread.put(request)

    def close(self, seconds: float) -> None:
        """End after the present step, and wait for that up to `seconds`."""
        self._thread.close(seconds)

    def measure(self) -> float:
        """Draw two steps of an empty prompt, and return the seconds of the second, when everything is open."""
        states = self._generator.states(Order(prompt="", seed=0, steps=3))
        next(states)
        began = time.monotonic()
        next(states)
        return time.monotonic() - began

    def _work(self, first: Request) -> None:
        """Draw a request, and those that join it, until none is left."""
        joint = self._generator.together()
        under_way: list[_UnderWay] = []
        joining: Request | None = first
        while joining is not None or under_way:
            while joining is not None:
                self._begin(joint, joining, under_way)
                joining = self._thread.another()
            began = time.monotonic()
            if (end := _ended_by(joint.step)) is not None:
                for one in under_way:
                    self._done(one.request, end)
                return
            share = (time.monotonic() - began) / max(1, len(under_way))
            under_way = [one for one in under_way if self._goes_on(joint, one, share)]
            joining = self._thread.another()

    def _begin(self, joint: Joint, request: Request, under_way: list[_UnderWay]) -> None:
        began = time.monotonic()

        def begin() -> None:
            wanted = order(request.drawing, self._bank, began)
            under_way.append(_UnderWay(request, wanted, joint.begin(wanted), time.monotonic() - began))

        if (end := _ended_by(begin)) is not None:
            self._done(request, end)

    def _goes_on(self, joint: Joint, one: _UnderWay, share: float) -> bool:
        """End a drawing that nobody wants any more, or that has done its steps; True if it goes on."""
        one.seconds += share
        state, until = one.drawing.state, one.request.drawing.until
        assert state is not None, "it has done a step"
        if one.request.stopped or self._thread.is_closed:
            end: Drawn | None = Drawn()
        elif state.step < until:
            return True
        else:
            end = _ended_by(lambda: self._generator.check_state(state, one.order))
        joint.leave(one.drawing)
        self._done(one.request, end or Drawn(state.to_bytes(), one.seconds / until))
        return False


def _ended_by(work: Callable[[], None]) -> Drawn | None:
    """Do it; return the end that an error makes of a drawing."""
    try:
        work()
    except ImpastoError as error:
        return Drawn(error=error)
    except (ValueError, MemoryError) as error:
        return Drawn(error=RequestInvalid(f"This helper cannot draw that: {error}"))
    except Exception as error:
        return Drawn(fault=error)
    return None
