"""The requests of a helper: a bounded queue with quotas and deadlines, and the answers that were given. Pure: no clock.

    queued ──> drawing ──> answered ──deadline──> spent
       └──────────┴─── cancelled, or the deadline passes: ended

A request is named by its device and its hash. A known one is never drawn a second time: it has its place, or its
answer, or it is spent. Those that may be drawn together are: the next one in line joins if it is of their kind, so that
none is overtaken. Times are seconds of a clock that does not jump back.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeAlias

from coordinator.ingress import Bucket
from edge_sdk.errors import HelperBusy, QuotaExceeded, RequestExpired
from edge_sdk.wire import Manifest
from edge_sdk.wire import assist as wire

Name: TypeAlias = tuple[str, str]  # device, hash of the request
# Adapters with their weights, hybrid, steps, width and height.
Kind: TypeAlias = tuple[tuple[tuple[str, float], ...], str, int, int, int]


@dataclass(frozen=True)
class Limits:
    """Limits of one helper.

    Attributes:
        queue: requests that may wait, beside those that are drawn.
        together: requests that may be drawn at once.
        per_device: requests of one device that may wait or be drawn.
        a_minute: requests of one device in a minute.
        answers: bytes of answers that are kept.
        ahead: the longest time until a deadline, in seconds.
    """

    queue: int = 16
    together: int = 4
    per_device: int = 2
    a_minute: int = 12
    answers: int = 64 << 20
    ahead: float = 3600.0


@dataclass(eq=False)
class Request:
    """A request that was taken.

    Attributes:
        name: its device and its hash.
        drawing: what is asked for.
        arrived, deadline: times.
        stopped: True once nobody wants it any more; the thread that draws looks at this between steps.
    """

    name: Name
    drawing: wire.Drawing
    arrived: float
    deadline: float
    stopped: bool = False

    @property
    def device(self) -> str:
        return self.name[0]

    @property
    def kind(self) -> Kind:
        """All that requests must have in common for one run of the UNet to serve them."""
        drawing = self.drawing
        uses = tuple((use.sha256, use.weight) for use in drawing.adapters)
        return uses, drawing.hybrid, drawing.steps, drawing.width, drawing.height


@dataclass(frozen=True)
class Answer:
    """The answer to a request.

    Attributes:
        manifest, data: of the drawing's state.
        seconds: that a step took, its share of them if others were drawn with it.
        deadline: time until which it is kept.
    """

    manifest: Manifest
    data: bytes
    seconds: float
    deadline: float


class Requests:
    """All requests of a helper. Not thread-safe, but for `Request.stopped`.

    Attributes:
        limits: the limits.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._drawing: OrderedDict[Name, Request] = OrderedDict()
        self._waiting: OrderedDict[Name, Request] = OrderedDict()
        self._answers: OrderedDict[Name, Answer] = OrderedDict()
        self._dropped: list[tuple[Name, Answer]] = []
        self._spent: dict[Name, float] = {}  # request that was answered or ended -> its deadline
        self._rates: dict[str, Bucket] = {}

    def __len__(self) -> int:
        """Number of requests that wait or are drawn."""
        return len(self.everything())

    def answer(self, name: Name) -> Answer | None:
        """Return the answer to a request, if it is still here."""
        return self._answers.get(name)

    def get(self, name: Name) -> Request | None:
        """Return a request that waits or is drawn."""
        return next((request for request in self.everything() if request.name == name), None)

    def before(self, name: Name) -> list[Request] | None:
        """Return the requests before one that waits or is drawn, the first one first; None if nobody wants it."""
        line = [request for request in self.everything() if not request.stopped]
        names = [request.name for request in line]
        return line[: names.index(name)] if name in names else None

    def add(self, request: Request, now: float) -> None:
        """Take a new request into the queue.

        Raises:
            RequestExpired: its deadline has passed or is too far away, or it was answered or ended before.
            QuotaExceeded: its device has asked for more than it may.
            HelperBusy: the queue is full.
        """
        limits, device = self.limits, request.device
        if not now < request.deadline <= now + limits.ahead:
            late = "has passed" if request.deadline <= now else f"is more than {limits.ahead:g} s ahead"
            raise RequestExpired(f"The deadline of this request {late}: ask anew, and compare the device's clock.")
        if request.name in self._spent or self.get(request.name) is not None:
            raise RequestExpired("This request was answered or ended before: ask with a new seed or deadline.")
        own = [other for other in self.everything() if other.device == device]
        if len(own) >= limits.per_device:
            raise QuotaExceeded(f"{len(own)} requests of this device wait here: cancel one, or wait for an answer.")
        rate = self._rates.setdefault(device, Bucket(limits.a_minute, now))
        if not rate.has(1, now):
            raise QuotaExceeded(f"More than {limits.a_minute} requests of this device in a minute: ask more slowly.")
        if len(self._waiting) >= limits.queue:
            raise HelperBusy(f"{len(self._waiting)} requests wait here, and there is no room for more.")
        rate.take(1)
        self._waiting[request.name] = request

    def next(self) -> Request | None:
        """Begin to draw the request that has waited longest, also while others of its kind are drawn.

        Returns:
            The request; None if none waits, or it has to wait for those that are drawn.
        """
        if not self._waiting:
            return None
        request = next(iter(self._waiting.values()))
        others = self._drawing.values()
        if len(others) >= self.limits.together or any(other.kind != request.kind for other in others):
            return None
        self._drawing[request.name] = self._waiting.pop(request.name)
        return request

    def finish(self, name: Name, answer: Answer | None) -> Request:
        """End a drawing; keep its answer, if there is one that somebody wants, and drop the oldest over the limit."""
        request = self._drawing.pop(name)
        self._spent[request.name] = request.deadline
        if answer is not None and not request.stopped:
            self._answers[request.name] = answer
            while sum(len(kept.data) for kept in self._answers.values()) > self.limits.answers:
                self._drop(next(iter(self._answers)))
        return request

    def cancel(self, name: Name) -> Request | None:
        """Stop a request; return it if it waited or was drawn. Its answer, if it has one, is deleted."""
        self._drop(name)
        drawn = self._drawing.get(name)
        if drawn is not None and not drawn.stopped:
            drawn.stopped = True
            return drawn
        request = self._waiting.pop(name, None)
        if request is not None:
            self._spent[name] = request.deadline
        return request

    def expire(self, now: float) -> list[Request]:
        """Stop the requests whose deadline has passed, and return them; delete what was kept until now."""
        late = [request for request in self.everything() if request.deadline <= now and not request.stopped]
        for request in late:
            self.cancel(request.name)
        for name in [name for name, answer in self._answers.items() if answer.deadline <= now]:
            self._drop(name)
        # A request after its deadline is refused for that.
        for name in [name for name, deadline in self._spent.items() if deadline <= now]:
            del self._spent[name]
        for device in [device for device, rate in self._rates.items() if rate.has(self.limits.a_minute, now)]:
            del self._rates[device]
        return late

    def dropped(self) -> list[tuple[Name, Answer]]:
        """Return the answers that were dropped since the last call: they are not offered any more."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def _drop(self, name: Name) -> None:
        answer = self._answers.pop(name, None)
        if answer is not None:
            self._dropped.append((name, answer))

    def everything(self) -> list[Request]:
        """Return the requests that wait or are drawn, the first one first."""
        return [*self._drawing.values(), *self._waiting.values()]

    def stop_all(self) -> list[Request]:
        """Stop all requests, and return them."""
        stopped = [request for request in self.everything() if not request.stopped]
        for request in stopped:
            self.cancel(request.name)
        return stopped
