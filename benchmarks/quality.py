"""Faster or smaller drawing, and its effect on pictures: int8, float16, bfloat16, step reuse.

    python -m benchmarks.quality [--quick] [--seed N] [--json FILE]

The stickers base model draws the same captions of the base styles from the same seeds in every way, and
`samples.stickers.judge` says whether style and subject are those that were asked for. The ways take turns at every
caption, so that their times can be compared. The times are those of a small UNet; for large ones see
benchmarks.inference.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from PIL import Image
from rich.progress import track

from benchmarks.shared.harness import Bar, Report, Row, arguments, value_of
from benchmarks.shared.stickers import MODEL
from edge_sdk.inference import Bundle, Generator
from edge_sdk.inference.bundle import BundlePrecision
from edge_sdk.inference.runtime import open_session
from samples.stickers import data
from samples.stickers.judge import GUIDANCE, Judge
from samples.stickers.styles import STYLES

CAPTIONS, QUICK_CAPTIONS = 200, 20
STEPS = 25
# Far from the seeds of training and calibration.
FIRST_SEED = 10_000
CALIBRATION_PROMPTS = 16
RANK = 16
Feed = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Way:
    """A way of drawing: the bundle's precision, the back end, and step reuse (the UNet's deep part every n-th step)."""

    precision: BundlePrecision
    backend: str = "cpu"
    reuse: int = 1


@dataclass
class Drawn:
    """Pictures of all captions, the latents that they were decoded from, and seconds for each."""

    pictures: list[Image.Image] = field(default_factory=list)
    latents: list[npt.NDArray[np.float32]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


EXACT = "fp32"
WAYS: Mapping[str, Way] = {
    EXACT: Way("fp32"),
    "fp16": Way("fp16"),
    "int8": Way("int8"),
    "OpenVINO bf16": Way("fp32", backend="openvino"),
    "fp32, reuse 2": Way("fp32", reuse=2),
    "fp32, reuse 3": Way("fp32", reuse=3),
    "int8, reuse 2": Way("int8", reuse=2),
}
# Ways that are held to a bar; the loss of the others is a choice.
HELD = ("fp16", "int8", "OpenVINO bf16")
MOST_POINTS_LOST = 3.0


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given)
    report = Report(chosen, seeds=[chosen.seed])
    with tempfile.TemporaryDirectory(prefix="impasto-benchmark-") as folder:
        _measure(report, Path(folder))
    report.finish()


def _measure(report: Report, folder: Path) -> None:
    stickers = data.read(keep=lambda sticker: STYLES[sticker.style].base)
    prompts = [stickers[number].text for number in data.spread(len(stickers), CALIBRATION_PROMPTS)]
    captions = QUICK_CAPTIONS if report.arguments.quick else CAPTIONS
    chosen = [stickers[number] for number in data.spread(len(stickers), captions)]
    errors = _export(folder, prompts)
    drawn = _draw(folder, [sticker.text for sticker in chosen], report.arguments.seed)
    adapted = _adapted(folder, prompts[:6], report.arguments.seed)
    judge = Judge()
    asked = [(sticker.style, sticker.subgroup) for sticker in chosen]
    for name, way in WAYS.items():
        verdict = judge.score(drawn[name].pictures, asked)
        row: dict[str, str | int | float | None] = {
            "way": name,
            "unet_mb": _unet_megabytes(folder / way.precision),
            "step_error": errors[way.precision] if way.backend == "cpu" and way.reuse == 1 else None,
            "latents_error": _relative(drawn[name].latents, drawn[EXACT].latents),
            "psnr_db": _psnr(drawn[name].pictures, drawn[EXACT].pictures),
            "both_hit": verdict.both_hit,
            "style_hit": verdict.style_hit,
            "subject_hit": verdict.subject_hit,
            "picture_s": statistics.median(drawn[name].seconds),
            "time_over_fp32": _ratio(drawn[name].seconds, drawn[EXACT].seconds),
            "captions": len(chosen),
        }
        if name in adapted:
            row["step_error_with_adapter"], row["adapter_gain"] = adapted[name]
        report.rows.append(row)
    report.bars += bars(report.rows)


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Bars against float32."""
    row_of = {str(row["way"]): row for row in rows}
    found: list[Bar] = []
    for name in (name for name in HELD if name in row_of):
        for what in ("both_hit", "style_hit", "subject_hit"):
            lost = 100 * (value_of(row_of[EXACT], what) - value_of(row_of[name], what))
            found.append(Bar(f"{name}: {what} below fp32's, in points", lost, MOST_POINTS_LOST))
        if "adapter_gain" in row_of[name]:
            away = abs(value_of(row_of[name], "adapter_gain") - 1)
            found.append(Bar(f"{name}: a rank-{RANK} adapter's effect away from 1", away, 0.05))
    return found


def _export(folder: Path, prompts: Sequence[str]) -> dict[BundlePrecision, float]:
    """A bundle for each precision; the error of a step of its UNet."""
    from export import export_model

    errors: dict[BundlePrecision, float] = {}
    for precision in dict.fromkeys(way.precision for way in WAYS.values()):
        made = export_model(
            MODEL, folder / precision, precision=precision, prompts=prompts, verify=False, step_reuse=True
        )
        errors[precision] = made.errors.get(f"unet in {precision}", 0.0)
    return errors


def _draw(folder: Path, captions: Sequence[str], seed: int) -> dict[str, Drawn]:
    drawn = {name: Drawn() for name in WAYS}
    with ExitStack() as stack:
        generators = {
            name: stack.enter_context(
                Generator.load(folder / way.precision, verify=False, backend=way.backend, cache=folder / "cache")
            )
            for name, way in WAYS.items()
        }
        # Open and warm up every generator before timing.
        for name, generator in generators.items():
            generator.generate("a fox", steps=2, reuse=WAYS[name].reuse)
        for number, caption in enumerate(track(captions, description="draw")):
            for name, generator in generators.items():
                _draw_one(drawn[name], generator, caption, FIRST_SEED + CAPTIONS * seed + number, WAYS[name].reuse)
    return drawn


def _draw_one(drawn: Drawn, generator: Generator, caption: str, seed: int, reuse: int) -> None:
    def keep(step: int, total: int, latents: npt.NDArray[np.float32]) -> None:
        if step == total:
            drawn.latents.append(latents)

    began = time.perf_counter()
    drawn.pictures += generator.generate(
        caption, seed=seed, steps=STEPS, guidance=GUIDANCE, scheduler="ddim", reuse=reuse, on_step=keep
    )
    drawn.seconds.append(time.perf_counter() - began)


def _adapted(folder: Path, prompts: Sequence[str], seed: int) -> dict[str, tuple[float, float]]:
    """Precision -> error of a step with an adapter, and the part of the adapter's effect that is left (1 is all)."""
    from export.precision import read_feed, record

    (folder / "feeds").mkdir()
    factors = _adapter(folder / EXACT, seed)
    files = record(folder / EXACT, folder / "feeds", prompts, pictures=6, seed=FIRST_SEED)["unet"]
    feeds = [read_feed(file) for file in files]

    def both(precision: BundlePrecision) -> list[npt.NDArray[np.float32]]:
        session = open_session(folder / precision / "unet" / "model.onnx")
        return [np.concatenate([_run(session, {**feed, **extra}) for feed in feeds]) for extra in ({}, factors)]

    plain, adapted = both("fp32")
    found: dict[str, tuple[float, float]] = {}
    for precision in dict.fromkeys(way.precision for way in WAYS.values() if way.precision != EXACT):
        other_plain, other_adapted = both(precision)
        effect, other_effect = adapted - plain, other_adapted - other_plain
        gain = float((effect * other_effect).sum() / (effect * effect).sum())
        found[precision] = (_relative([other_adapted], [adapted]), gain)
    return found


def _adapter(bundle: Path, seed: int) -> Feed:
    """A random adapter that changes a step about as much as a trained one."""
    rng = np.random.default_rng(seed)
    factors: Feed = {}
    for slot in Bundle.load(bundle, verify=False).index.slots:
        factors[slot.input_a] = rng.standard_normal((slot.in_features, RANK), np.float32) / slot.in_features**0.5
        factors[slot.input_b] = 0.5 * rng.standard_normal((RANK, slot.out_features), np.float32) / RANK**0.5
    return factors


def _run(session: ort.InferenceSession, feed: Feed) -> npt.NDArray[np.float32]:
    result: npt.NDArray[np.float32] = session.run(["out_sample"], feed)[0]
    return result


def _relative(found: Sequence[npt.NDArray[np.float32]], wanted: Sequence[npt.NDArray[np.float32]]) -> float:
    """Root mean square of the difference over that of `wanted`."""
    exact = np.concatenate(wanted)
    return float(np.sqrt(((np.concatenate(found) - exact) ** 2).mean() / (exact**2).mean()))


def _ratio(seconds: Sequence[float], others: Sequence[float]) -> float:
    """Median over the captions of the ratio of both times at a caption."""
    return statistics.median(own / other for own, other in zip(seconds, others, strict=True))


def _psnr(found: Sequence[Image.Image], wanted: Sequence[Image.Image]) -> float | None:
    """Mean PSNR over the pictures in decibels; None if they are equal."""
    pairs = zip(found, wanted, strict=True)
    errors = [float(((np.asarray(a, np.float32) - np.asarray(b, np.float32)) ** 2).mean()) for a, b in pairs]
    if not any(errors):
        return None
    # A picture without any difference counts as one of a hundredth of a step.
    return float(np.mean([10 * np.log10(255**2 / max(error, 1e-2)) for error in errors]))


def _unet_megabytes(bundle: Path) -> float:
    """Megabytes of the UNet, without the graph of step reuse, which shares its weights."""
    files = [path for path in (bundle / "unet").iterdir() if path.name != "shallow.onnx"]
    return round(sum(path.stat().st_size for path in files) / 1e6, 2)


if __name__ == "__main__":
    main()
