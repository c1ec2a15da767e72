"""Pictures in two halves, judged and compared with those that the device draws alone.

The halves are drawn in one process: the first as a helper draws it, the second as the device does, which goes on from
the first one's bytes. `benchmarks.assisted.times` draws the same over a network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.mixtures import world
from benchmarks.shared.harness import Bar, Row, standard_error, value_of
from benchmarks.shared.stickers import base_id, generator
from edge_sdk import adapter as adapters
from edge_sdk.adapter import Adapter
from edge_sdk.device.assist import latest
from edge_sdk.inference import DrawingState, Order, read_state
from samples.demo.plan import GROUP_STYLES
from samples.demo.settings import WEIGHT
from samples.stickers.data import Sticker
from samples.stickers.judge import GUIDANCE, Judge
from samples.stickers.styles import plain_caption

ALONE = "all local"
POINTS = 0.02
# Far from the seeds of training and of the other benchmarks.
_FIRST_SEED = 40_000


@dataclass(frozen=True)
class Way:
    """A way of drawing a picture.

    Attributes:
        name: of its row.
        steps: those of the whole drawing.
        by_helper: the first of them, as the helper draws them; 0 if the device draws alone.
        form: what stands for the prompt, "open" or "blank"; empty if the device draws alone.
        has_adapter: True if the helper has the adapter, too; False if it is the device's leaf.
        auto: True if `by_helper` is what `auto` asks for.
    """

    name: str
    steps: int
    by_helper: int = 0
    form: str = ""
    has_adapter: bool = False
    auto: bool = False


@dataclass(frozen=True)
class Study:
    """Amounts of drawing.

    Attributes:
        lessons: amounts of training of the styles' adapters.
        styles: the owners' styles.
        subjects, seeds: the pictures of each style in each way.
        steps: those of a whole drawing.
        places: numbers of steps of the helper, beside what `auto` asks for.
    """

    lessons: world.Scale
    styles: tuple[str, ...]
    subjects: int
    seeds: int
    steps: int = 20
    places: tuple[int, ...] = (6, 8, 10, 12)


FULL = Study(world.FULL, GROUP_STYLES, subjects=28, seeds=2)
QUICK = Study(world.QUICK, GROUP_STYLES[:1], subjects=1, seeds=1, steps=4, places=(1,))


def ways(study: Study, noisy: Callable[[int, float], int]) -> list[Way]:
    """The ways of a study, in the order of their rows.

    noisy: `Generator.noisy_steps`.
    """
    steps = study.steps
    most, every = (noisy(steps, latest(knows_all=knows_all)) for knows_all in (False, True))
    places = sorted({*study.places, most} - {0})
    found = [Way(ALONE, steps), *(Way(f"alone, {steps - k} steps", steps - k) for k in places)]
    found.append(Way(f"open to {every}", steps, every, "open", True, auto=True))
    for form, has_adapter in (("blank", True), ("open", False), ("blank", False)):
        whose = "" if has_adapter else ", with a leaf"
        found += [Way(f"{form} to {k}{whose}", steps, k, form, has_adapter, auto=k == most) for k in places]
    return found


def subjects(study: Study) -> list[Sticker]:
    """Subjects that no adapter has learnt."""
    return world.subjects(replace(study.lessons, subjects=study.subjects))


def seeds_of(study: Study, seed: int) -> list[int]:
    """The seeds of each subject's pictures."""
    return [_FIRST_SEED + 1000 * seed + number for number in range(study.seeds)]


def facts(style: str, subject: Sticker, study: Study, seed: int) -> dict[str, Any]:
    """Everything that the result of a subject in a style depends on."""
    drawn = [asdict(way) for way in ways(study, generator().noisy_steps)]
    return {
        "base": base_id(), "lesson": world.lesson(style, study.lessons, seed), "subject": subject.subject,
        # Which of them `auto` takes changes no picture.
        "ways": [{name: value for name, value in way.items() if name != "auto"} for way in drawn],
        "seeds": seeds_of(study, seed), "weight": WEIGHT, "guidance": GUIDANCE, "hybrid": "guide", "scheduler": "dpm++",
    }  # fmt: skip


def run(style: str, subject: Sticker, study: Study, seed: int) -> dict[str, Any]:
    """A subject in a style, drawn in every way. By way, for each picture: "subject" and "style" hits, "distance"."""
    began, judge = time.perf_counter(), Judge()
    adapter = adapters.load(world.adapters_file(style, study.lessons, seed))
    drawn = drawn_in(ways(study, generator().noisy_steps), subject, adapter, seeds_of(study, seed))
    found = {}
    for name, pictures in drawn.items():
        named = judge.name(pictures)
        found[name] = {
            "subject": [float(subgroup == subject.subgroup) for _, subgroup in named],
            "style": [float(said == style) for said, _ in named],
            "distance": [distance(one, other) for one, other in zip(pictures, drawn[ALONE], strict=True)],
        }
    return {"ways": found, "seconds": time.perf_counter() - began}


def distance(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference of two pictures' pixels, of 1."""
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean()) / 255


def drawn_in(
    chosen: Sequence[Way], subject: Sticker, adapter: Adapter, seeds: Sequence[int]
) -> dict[str, list[Image.Image]]:
    """Way -> its pictures, one for each seed. Halves of a helper that ways have in common are drawn once."""
    caption = [plain_caption(subject.subject)] * len(seeds)

    def order(way: Way, prompt: Sequence[str], *, with_adapter: bool, state: DrawingState | None = None) -> Order:
        return Order(
            prompt=prompt, seed=list(seeds), steps=way.steps, guidance=GUIDANCE, scheduler="dpm++", hybrid="guide",
            adapters=[(adapter, WEIGHT)] if with_adapter else [], state=state,
        )  # fmt: skip

    halves: dict[tuple[str, bool], list[DrawingState]] = {}
    found = {}
    for way in chosen:
        state = None
        if way.form:
            half = way.form, way.has_adapter
            if half not in halves:
                last = max(other.by_helper for other in chosen if (other.form, other.has_adapter) == half)
                first = order(way, [""] * len(seeds) if way.form == "blank" else caption, with_adapter=way.has_adapter)
                halves[half] = [one for one, _ in zip(generator().states(first), range(last), strict=False)]
            state = read_state(halves[half][way.by_helper - 1].to_bytes())
        *_, last_state = generator().states(order(way, caption, with_adapter=True, state=state))
        found[way.name] = generator().decode(last_state.latents)
    return found


def rows(results: Sequence[Mapping[str, Any]], chosen: Sequence[Way]) -> list[Row]:
    """A row for each way, of all pictures; errors are of means over the cells (a subject in a style)."""
    return [_row(way, [cell["ways"] for cell in results]) for way in chosen]


def _row(way: Way, cells: Sequence[Mapping[str, Mapping[str, Sequence[float]]]]) -> Row:
    def means(of: str, what: str) -> list[float]:
        return [float(np.mean(_hits(cell[of], what))) for cell in cells]

    row: dict[str, str | int | float | None] = {
        "part": "pictures", "row": way.name, "steps": way.steps, "by_helper": way.by_helper, "form": way.form,
        "leaf": int(bool(way.form) and not way.has_adapter), "auto": int(way.auto),
        "pictures": sum(len(cell[way.name]["style"]) for cell in cells),
        "distance": float(np.mean(means(way.name, "distance"))),
    }  # fmt: skip
    for what in ("subject", "style", "both"):
        own, alone = means(way.name, what), means(ALONE, what)
        less = [one - other for one, other in zip(own, alone, strict=True)]
        row |= {
            f"{what}_hit": float(np.mean(own)),
            f"{what}_more": float(np.mean(less)),
            f"{what}_more_se": standard_error(less),
        }
    return row


def _hits(cell: Mapping[str, Sequence[float]], what: str) -> Sequence[float]:
    """Numbers of a cell, one for each picture; "both" is subject and style at once."""
    if what != "both":
        return cell[what]
    return [subject * style for subject, style in zip(cell["subject"], cell["style"], strict=True)]


def bars(found: Sequence[Row]) -> list[Bar]:
    """Bars: at the steps that `auto` asks for, hits of subject and style in one picture are as many as alone."""
    return [
        Bar(f"subject and style, {row['row']} (auto), less all local", value_of(row, "both_more"), -POINTS, "at least")
        for row in found
        if row.get("part") == "pictures" and row["auto"]
    ]
