"""Ways to learn a style from few pictures, and to draw with it: each differs from the usual one in one thing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from edge_sdk.adapter import LayerSet

ROUNDS = 6
# A caption with the device's words for its style, without them, or training on both.
Form = Literal["style", "plain", "both"]
Kinds = Literal["same", "other"]


@dataclass(frozen=True)
class Lesson:
    """Settings of a training, as `Trainer` names them.

    captions: the form of the captions that are trained on.
    prior: number of drawings of the base model that are trained on beside the owner's pictures.
    devices: number of devices of the owner's style that learn together, the owner's among them: in `ROUNDS` rounds of a
        federation, of `steps` steps in all.
    guarded: true if a guard looks at the pictures that the owner keeps back, see `edge_sdk.training.Guard`.
    """

    rank: int = 8
    steps: int = 96
    batch_size: int = 8
    learning_rate: float = 1e-3
    layers: LayerSet = "all"
    mirror: bool = False
    caption_dropout: float = 0.05
    captions: Form = "style"
    prior: int = 0
    guarded: bool = False
    devices: int = 1


@dataclass(frozen=True)
class Drawing:
    """Settings of the drawings by which a lesson is judged."""

    weight: float = 0.75
    guidance: float = 4.0
    hybrid: str = "guide"
    caption: Literal["style", "plain", "known"] = "style"


@dataclass(frozen=True)
class Arm:
    """A row: a lesson, or None for the base model as it is, and the way of drawing.

    kinds: the subjects that are drawn: of the same kinds as those of the owner's pictures, or of all other kinds.
    newcomer: true if the owner learns nothing, and draws with what another owner of its style has learnt.
    """

    name: str
    lesson: Lesson | None = Lesson()
    drawing: Drawing = Drawing()
    kinds: Kinds = "same"
    newcomer: bool = False


USUAL, TOGETHER = "usual", "together"
# Kinds of subjects of which the owner has no picture; federations know them from others' pictures.
OTHER_KINDS = "other kinds of subjects"
TOGETHER_OTHER_KINDS = f"{TOGETHER}, {OTHER_KINDS}"
NEWCOMER = "newcomer to others' federation"
# A device alone that takes twice as many steps.
AS_LONG = "192 steps"
BASE, BASE_KNOWN = "base model", "base model, known words"
# Rows up to this one come before those with other numbers of pictures.
LAST_TELLING = AS_LONG


def arms() -> Iterator[Arm]:
    """All rows, the usual one first, then the most telling ones."""
    alike = Lesson(devices=4)
    yield Arm(USUAL)
    yield Arm(TOGETHER, alike)
    yield Arm(BASE, None)
    yield Arm(BASE_KNOWN, None, Drawing(caption="known"))
    yield Arm(OTHER_KINDS, kinds="other")
    yield Arm(TOGETHER_OTHER_KINDS, alike, kinds="other")
    yield Arm(f"{BASE}, {OTHER_KINDS}", None, kinds="other")
    yield Arm(NEWCOMER, alike, newcomer=True)
    yield _drawn("weight 1", weight=1.0)
    yield Arm(f"{TOGETHER}, weight 1", alike, Drawing(weight=1.0))
    yield _drawn("merged", hybrid="merge")
    yield _taught(AS_LONG, steps=192)
    yield _taught("mirrored as well", mirror=True)
    for rate in (5e-4, 2e-3):
        yield _taught(f"learning rate {rate:g}", learning_rate=rate)
    for layers in ("attention", "transformer"):
        yield _taught(f"layers {layers}", layers=layers)
    for rank in (4, 16):
        yield _taught(f"rank {rank}", rank=rank)
    for weight in (0.5, 1.25):
        yield _drawn(f"weight {weight:g}", weight=weight)
    for guidance in (2.0, 6.0):
        yield _drawn(f"guidance {guidance:g}", guidance=guidance)
    yield _drawn("merged, weight 1", hybrid="merge", weight=1.0)
    yield _drawn("asked for without style words", caption="plain")
    yield _taught("captions of both forms", captions="both")
    yield _taught("plain captions", captions="plain")
    yield _taught("24 prior pictures", prior=24)
    yield _taught("captions dropped 2 in 10", caption_dropout=0.2)
    for steps in (48, 384):
        yield _taught(f"{steps} steps", steps=steps)
    yield _taught("384 steps, guarded", steps=384, guarded=True)
    yield _taught(f"{TOGETHER}, 192 steps", devices=4, steps=192)


def _taught(name: str, **changed: object) -> Arm:
    return Arm(name, replace(Lesson(), **changed))  # type: ignore[arg-type]


def _drawn(name: str, **changed: object) -> Arm:
    return Arm(name, drawing=replace(Drawing(), **changed))  # type: ignore[arg-type]
