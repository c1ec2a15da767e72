"""From a device's `Ask` to an order for the generator, or to the error that names what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection

from coordinator.assist.bank import Bank
from edge_sdk.errors import RequestInvalid, StateMismatch
from edge_sdk.inference import HYBRIDS, SCHEDULERS, Course, Order, PromptWords
from edge_sdk.wire import assist as wire


def check(drawing: wire.Drawing, course: Course, forms: Collection[wire.Form], largest: int) -> None:
    """Check what can be told without drawing.

    Args:
        drawing: what a device asks for.
        course: a course of the helper's bundle.
        forms: the forms that the helper takes.
        largest: pixels of the largest picture.

    Raises:
        StateMismatch: it is for another base model, precision or noise schedule.
        RequestInvalid: a form that is not taken, too many pixels, an unknown scheduler or hybrid.
    """
    for name, word in (("base_id", "base model"), ("variant", "precision"), ("schedule", "noise schedule")):
        theirs, ours = getattr(drawing, name), getattr(course, name)
        if theirs != ours:
            raise StateMismatch(
                f"This helper has another {word} ({ours[:70]}) than the device ({theirs[:70]}): give both the same "
                "bundle."
            )
    if drawing.form not in forms:
        raise RequestInvalid(f"This helper does not take requests of form {drawing.form!r}, but {', '.join(forms)}.")
    if drawing.width * drawing.height > largest:
        raise RequestInvalid(
            f"{drawing.width} x {drawing.height} pixels are more than the {largest} that this helper draws: ask for "
            "smaller pictures."
        )
    if drawing.scheduler not in SCHEDULERS or drawing.hybrid not in HYBRIDS:
        raise RequestInvalid(
            f"This helper knows no scheduler {drawing.scheduler[:50]!r} with a hybrid {drawing.hybrid[:50]!r}: it has "
            f"{', '.join(SCHEDULERS)}; {', '.join(HYBRIDS)}."
        )


def order(drawing: wire.Drawing, bank: Bank, now: float) -> Order:
    """Make the order of a drawing that was checked.

    Raises:
        AdapterUnknown, StoreUnavailable: see `Bank.adapter`.
    """
    return Order(
        prompt="" if drawing.form == "blank" else _words(drawing.prompt),
        negative_prompt="" if drawing.negative is None else _words(drawing.negative),
        seed=drawing.seed,
        steps=drawing.steps,
        guidance=drawing.guidance,
        scheduler=drawing.scheduler,
        adapters=[(bank.adapter(use.sha256, now), use.weight) for use in drawing.adapters],
        hybrid=drawing.hybrid,
        size=(drawing.width, drawing.height),
    )


def _words(tokens: list[bytes]) -> PromptWords:
    return PromptWords(tuple(wire.unpack_tokens(ids) for ids in tokens))
