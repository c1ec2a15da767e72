"""Drawings that go on together: at each step, the UNet computes those of the same adapters and size in one run.

They may have different prompts, seeds, guidance and schedulers, and one may begin or leave at any step of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias
from weakref import WeakValueDictionary

from edge_sdk.adapter import Adapter
from edge_sdk.inference.adapters import Mix, Step
from edge_sdk.inference.drawing import Order, Sampler
from edge_sdk.inference.sampling import Course, Denoiser, DrawingState, Latents, Point, Solving, next_point, state_after

Terms: TypeAlias = Sequence[tuple[Adapter, float]]


class Joint:
    """Drawings that go on together. Not thread-safe.

    Args:
        sampler: draws with the bundle.
        terms: checks the adapters of an order.
    """

    def __init__(self, sampler: Sampler, terms: Callable[[Mix], Terms]) -> None:
        self._sampler = sampler
        self._terms = terms
        self._unet = sampler.unet()
        self._drawings: list[JointDrawing] = []
        self._steps: WeakValueDictionary[tuple[object, ...], _Steps] = WeakValueDictionary()

    def __len__(self) -> int:
        """Number of drawings that have steps left."""
        return len(self._drawings)

    def begin(self, order: Order) -> JointDrawing:
        """Check an order and encode its prompts; its first step is done by the next `step`.

        Warns and raises:
            As `Generator.states`; ValueError also for an order with step reuse.
        """
        if order.reuse > 1:
            raise ValueError("Drawings that go on together have no step reuse: leave that out.")
        used: list[_Steps] = []

        def plan(hybrid: str, terms: Terms, steps: range) -> Iterator[Step]:
            # Those of the same adapters are the same objects, so that the UNet computes them in one run.
            key = hybrid, steps, *((id(adapter), weight) for adapter, weight in terms)
            found = self._steps.get(key)
            if found is None:
                found = self._steps[key] = _Steps(terms, self._sampler.steps_of(hybrid, terms, steps))
            used.append(found)
            return found.all()

        begun = self._sampler.prepare(order, self._terms(order.adapters), 2, plan)
        drawing = JointDrawing(begun.course, begun.skipped, begun.solving, begun.denoiser, used)
        self._drawings.append(drawing)
        return drawing

    def leave(self, drawing: JointDrawing) -> None:
        """End a drawing; does nothing if it has no steps left."""
        if drawing in self._drawings:
            self._drawings.remove(drawing)

    def step(self) -> None:
        """Do the next step of every drawing; those that have no steps left then leave.

        Raises:
            As `Generator.states` while it draws; the drawings then make no sense any more.
        """
        drawings = list(self._drawings)
        runs = [drawing.denoiser.runs(drawing.point) for drawing in drawings]
        results = iter(self._unet.predict_together([run for own in runs for run in own]))
        for drawing, own in zip(drawings, runs, strict=True):
            drawing.go_on(drawing.denoiser.predicted([next(results) for _ in own]))
        self._drawings = [drawing for drawing in self._drawings if not drawing.is_done]


class JointDrawing:
    """One of several drawings that go on together; `Joint.begin` makes it.

    Attributes:
        state: the state after the last of its steps; None before the first.
        is_done: True if no step is left.
        denoiser: its prompts and adapters.
        point: the point of its next step; the last one's if no step is left.
    """

    def __init__(
        self, course: Course, skipped: int, solving: Solving, denoiser: Denoiser, steps: Sequence[_Steps]
    ) -> None:
        self.state: DrawingState | None = None
        self.is_done = False
        self.denoiser = denoiser
        self._course, self._step, self._solving = course, skipped, solving
        self._steps = steps  # held for others of the same adapters
        first = next_point(solving)
        assert first is not None, "a drawing has a step"
        self.point: Point = first

    def go_on(self, predicted: Latents) -> None:
        """Do a step with the model's prediction at `point`."""
        self._step += 1
        self.state = DrawingState(self._course, self._step, state_after(self._solving, predicted))
        following = next_point(self._solving)
        self.is_done = following is None
        self.point = following or self.point


class _Steps:
    """The steps of a hybrid, each made once for all who go through them. terms: its adapters, which are held."""

    def __init__(self, terms: Terms, steps: Iterator[Step]) -> None:
        self.terms = terms
        self._made: list[Step] = []
        self._left = steps

    def all(self) -> Iterator[Step]:
        """The steps from the first one on."""
        number = 0
        while True:
            if number == len(self._made):
                step = next(self._left, None)
                if step is None:
                    return
                self._made.append(step)
            yield self._made[number]
            number += 1
