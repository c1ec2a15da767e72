"""The thread of a helper that draws: one request after the other, left at the next step once nobody wants it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from coordinator.assist.bank import Bank
from coordinator.assist.reading import order
from coordinator.assist.requests import Request
from coordinator.worker_thread import WorkerThread
from edge_sdk.errors import ImpastoError, RequestInvalid
from edge_sdk.inference import Generator, Order


@dataclass(frozen=True)
class Drawn:
    """The end of a drawing.

    Attributes:
        data: the state's bytes; None if there is none.
        seconds: that a step took, on average.
        error: the reason why there is no state; None also if the drawing was stopped.
        fault: an unexpected error, which ends the helper.
    """

    data: bytes | None = None
    seconds: float = 0.0
    error: ImpastoError | None = None
    fault: Exception | None = None


class Drawer:
    """Draws the first steps of requests.

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
        """Hand a request over."""
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

    def _work(self, request: Request) -> None:
        try:
            drawn = self._drawn(request)
        except ImpastoError as error:
            drawn = Drawn(error=error)
        except (ValueError, MemoryError) as error:
            drawn = Drawn(error=RequestInvalid(f"This helper cannot draw that: {error}"))
        except Exception as error:
            drawn = Drawn(fault=error)
        self._done(request, drawn)

    def _drawn(self, request: Request) -> Drawn:
        began = time.monotonic()
        wanted = order(request.drawing, self._bank, began)
        for state in self._generator.states(wanted):
            if request.stopped or self._thread.is_closed:
                break
            if state.step == request.drawing.until:
                self._generator.check_state(state, wanted)
                return Drawn(state.to_bytes(), (time.monotonic() - began) / state.step)
        return Drawn()
