"""The state of a drawing between two steps: what another process, on another machine, needs to go on with it.

It has no prompt and no adapters: who goes on brings their own. It travels as a msgpack map with the numbers as
little-endian float32, and is checked on arrival as every other input from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from edge_sdk.errors import StateInvalid, StateMismatch
from edge_sdk.inference.sampling.schedulers import Latents, SolverState

# Bytes of an encoded state: latents and x_0 of 16 pictures of 1024 x 1024 pixels.
MAX_STATE = 16 << 20
_WORDS = {
    "base_id": "base model",
    "variant": "precision (or fused LoRA files)",
    "schedule": "noise schedule",
    "scheduler": "scheduler",
    "steps": "number of steps",
}


_Text = Annotated[str, Meta(max_length=128)]
_Side = Annotated[int, Meta(ge=1, le=4096)]
_Steps = Annotated[int, Meta(ge=1, le=100_000)]


class Course(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that two drawings must have in common for one to go on where the other stopped.

    base_id: the base model; variant: `BundleIndex.variant`, as an int8 and an fp32 bundle do not draw the same;
    schedule: `NoiseSchedule.id`; scheduler: a key of `SCHEDULERS`; steps: those of the whole drawing.
    """

    base_id: _Text
    variant: _Text
    schedule: _Text
    scheduler: _Text
    steps: _Steps


@dataclass(frozen=True, eq=False)
class DrawingState:
    """A drawing after some of its steps.

    Attributes:
        course: the drawing that it is of.
        step: the number of its steps that are done, from 1.
        solver: the scheduler's state there.
    """

    course: Course
    step: int
    solver: SolverState

    @property
    def latents(self) -> Latents:
        """The latents (n, c, h, w)."""
        return self.solver.latents

    def check(self, course: Course, shape: tuple[int, ...], largest: float) -> None:
        """Check that a drawing can go on from here.

        Args:
            course: the drawing's.
            shape: (n, c, h, w) of its latents.
            largest: the largest number that they may hold, see `NoiseSchedule.largest`.

        Raises:
            StateMismatch: the state is of another drawing.
            StateInvalid: it has another shape, NaN, infinite or absurdly large numbers, or no step is left.
        """
        for name in Course.__struct_fields__:
            theirs, ours = getattr(self.course, name), getattr(course, name)
            if theirs != ours:
                raise StateMismatch(
                    f"The state is of another {_WORDS[name]} ({str(theirs)[:70]}) than the drawing ({str(ours)[:70]}): "
                    "go on with the bundle and the settings that it was begun with."
                )
        if not 1 <= self.step < course.steps:
            raise StateInvalid(f"A state after {self.step} of {course.steps} steps leaves nothing to draw.")
        has_previous = self.solver.previous is not None
        if has_previous != (course.scheduler == "dpm++"):
            what = "an x_0" if has_previous else "no x_0"
            raise StateInvalid(f"The state has {what} of the last step, unlike those of {course.scheduler}.")
        for array in (self.solver.latents, self.solver.previous):
            if array is None:
                continue
            if array.shape != shape:
                raise StateInvalid(f"The state has latents of shape {array.shape}, and the drawing of {shape}.")
            if not np.isfinite(array).all():
                raise StateInvalid("The state holds NaN or infinite numbers.")
            if float(np.abs(array).max()) > largest:
                raise StateInvalid(f"The state holds numbers above {largest:.0f}, which no drawing gives.")

    def to_bytes(self) -> bytes:
        """The state as bytes, for `read_state`."""
        previous = self.solver.previous
        return msgspec.msgpack.encode(
            _File(
                course=self.course,
                step=self.step,
                shape=self.latents.shape,
                latents=_bytes(self.latents),
                previous=None if previous is None else _bytes(previous),
            )
        )


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Literal[1] = 1
    course: Course
    step: _Steps
    shape: tuple[_Side, _Side, _Side, _Side]
    latents: bytes
    previous: bytes | None


_DECODER = msgspec.msgpack.Decoder(_File)


def read_state(data: bytes) -> DrawingState:
    """Read the bytes of a state. `DrawingState.check` then tells if a drawing can go on from it.

    Raises:
        StateInvalid: these are no bytes of a state.
    """
    if len(data) > MAX_STATE:
        raise StateInvalid(f"A state of {len(data)} bytes is more than {MAX_STATE}: draw fewer pictures at once.")
    try:
        file = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StateInvalid(f"These bytes are no state of a drawing ({str(error)[:500]}).") from error
    previous = None if file.previous is None else _array(file.previous, file.shape)
    solver = SolverState(_array(file.latents, file.shape), previous)
    return DrawingState(file.course, file.step, solver)


def _bytes(array: Latents) -> bytes:
    return np.ascontiguousarray(array, "<f4").tobytes()


def _array(data: bytes, shape: tuple[int, ...]) -> Latents:
    count = int(np.prod(shape, dtype=np.int64))
    if len(data) != 4 * count:
        raise StateInvalid(f"The state has {len(data)} bytes of latents, and its shape {shape} takes {4 * count}.")
    return np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)
