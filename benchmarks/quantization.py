"""Bundles in float16 and int8 against float32: pictures, sizes, time.

    python -m benchmarks.quantization [--quick] [--seed N] [--json FILE]

The stickers base model is exported in each precision. All draw the same captions of the base styles from the same
seeds; `samples.stickers.judge` says whether style and subject are those that were asked for. A second part, left out
by --quick, times one step of a UNet of BK-SDM-Tiny's shapes with random weights, the precisions taking turns.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from PIL import Image
from rich.progress import track

from benchmarks.harness import Bar, Report, arguments, folder_mb
from edge_sdk.inference import Bundle, Generator
from edge_sdk.inference.bundle import Precision
from edge_sdk.inference.sessions import open_session
from samples.stickers import data
from samples.stickers.judge import GUIDANCE, Judge, Verdict
from samples.stickers.styles import STYLES

MODEL = Path("samples/stickers/model")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
CAPTIONS, QUICK_CAPTIONS = 200, 20
STEPS = 25
# Away from the seeds of training and calibration.
FIRST_SEED = 10_000
CALIBRATION_PROMPTS = 16
RANK = 16
TIMED_STEPS = 7
Feed = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Drawn:
    """Pictures of all captions, and the latents that they were decoded from."""

    pictures: list[Image.Image]
    latents: npt.NDArray[np.float32]


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given)
    report = Report(chosen, seeds=[chosen.seed])
    with tempfile.TemporaryDirectory(prefix="impasto-benchmark-") as folder:
        _measure_pictures(report, Path(folder))
        if not chosen.quick:
            _measure_step(report, Path(folder))
    report.finish()


def _measure_pictures(report: Report, folder: Path) -> None:
    from export import export_model
    from export.calibration import record

    stickers = data.read(keep=lambda sticker: STYLES[sticker.style].base)
    prompts = [stickers[at].text for at in _spread(len(stickers), CALIBRATION_PROMPTS)]
    chosen = [stickers[at] for at in _spread(len(stickers), QUICK_CAPTIONS if report.arguments.quick else CAPTIONS)]
    asked = [(sticker.style, sticker.subgroup) for sticker in chosen]
    judge = Judge()
    drawn: dict[Precision, Drawn] = {}
    verdicts: dict[Precision, Verdict] = {}
    gains: dict[Precision, float] = {}
    factors: Feed = {}
    files: list[Path] = []
    for precision in PRECISIONS:
        made = export_model(MODEL, folder / precision, precision=precision, prompts=prompts, verify=False)
        drawn[precision] = _draw(made.folder, [sticker.text for sticker in chosen], report.arguments.seed)
        verdicts[precision] = judge.score(drawn[precision].pictures, asked)
        if not files:
            (folder / "feeds").mkdir()
            factors = _adapter(made.folder, report.arguments.seed)
            files = record(made.folder, folder / "feeds", prompts[:6], pictures=6, seed=FIRST_SEED)["unet"]
        error, gains[precision] = _effect(folder / "fp32", made.folder, factors, files)
        report.rows.append(
            {
                "precision": precision,
                "unet_mb": round(folder_mb(made.folder / "unet"), 2),
                "bundle_mb": round(folder_mb(made.folder), 2),
                "step_error": made.errors.get(f"unet in {precision}", 0.0),
                "latents_error": _relative(drawn[precision].latents, drawn["fp32"].latents),
                "psnr_db": _psnr(drawn[precision].pictures, drawn["fp32"].pictures),
                "step_error_with_adapter": error,
                "adapter_gain": gains[precision],
                "style_hit": verdicts[precision].style_hit,
                "subject_hit": verdicts[precision].subject_hit,
                "captions": len(chosen),
            }
        )
    for precision in PRECISIONS[1:]:
        lost_gain = abs(gains[precision] - 1)
        for what in ("style_hit", "subject_hit"):
            lost = 100 * (getattr(verdicts["fp32"], what) - getattr(verdicts[precision], what))
            report.bars.append(Bar(f"{precision}, {what} below fp32's, in points", lost, 3.0))
        report.bars.append(Bar(f"{precision}, a rank-{RANK} adapter's effect away from 1", lost_gain, 0.05))


def _spread(length: int, count: int) -> list[int]:
    """`count` places from the first to the last of `length`: those that the judge measures the base model at."""
    return [int(at) for at in np.linspace(0, length - 1, count).round()]


def _draw(bundle: Path, captions: Sequence[str], seed: int) -> Drawn:
    generator = Generator.load(bundle, verify=False)
    pictures, latents = [], []
    last: list[npt.NDArray[np.float32]] = []
    for number, caption in enumerate(track(captions, description=f"draw, {bundle.name}")):
        pictures += generator.generate(
            caption,
            seed=FIRST_SEED + CAPTIONS * seed + number,
            steps=STEPS,
            guidance=GUIDANCE,
            scheduler="ddim",
            on_step=lambda step, total, x: last.append(x) if step == total else None,
        )
        latents.append(last.pop())
    return Drawn(pictures, np.concatenate(latents))


def _adapter(bundle: Path, seed: int) -> Feed:
    """A random adapter that changes a step about as much as a trained one."""
    rng = np.random.default_rng(seed)
    factors: Feed = {}
    for slot in Bundle.load(bundle, verify=False).index.slots:
        factors[slot.input_a] = rng.standard_normal((slot.in_features, RANK), np.float32) / slot.in_features**0.5
        factors[slot.input_b] = 0.5 * rng.standard_normal((RANK, slot.out_features), np.float32) / RANK**0.5
    return factors


def _effect(exact: Path, other: Path, factors: Feed, files: Sequence[Path]) -> tuple[float, float]:
    """Of steps with an adapter: the error against float32, and how much of the adapter's effect there is (1 is all)."""
    from export.calibration import read_feed

    feeds = [read_feed(file) for file in files]
    plain, adapted, other_plain, other_adapted = (
        np.concatenate([_run(session, {**feed, **extra}) for feed in feeds])
        for session in (open_session(folder / "unet" / "model.onnx") for folder in (exact, other))
        for extra in ({}, factors)
    )
    effect, other_effect = adapted - plain, other_adapted - other_plain
    return _relative(other_adapted, adapted), float((effect * other_effect).sum() / (effect * effect).sum())


def _measure_step(report: Report, folder: Path) -> None:
    """Time steps of a large UNet, the precisions taking turns, because machines change their speed."""
    from export import export_model
    from export.quantization import quantize

    exact = export_model(write_large_model(folder / "large"), folder / "large-fp32", verify=False).folder
    rng = np.random.default_rng(report.arguments.seed)
    feed: Feed = {
        "sample": rng.standard_normal((1, *Bundle.load(exact, verify=False).index.latent_shape), np.float32),
        "timestep": np.array(601, np.float32),
        "encoder_hidden_states": rng.standard_normal((1, 77, 768), np.float32),
    }
    np.savez(folder / "feed.npz", **feed)  # type: ignore[arg-type]  # an option is typed as if it took any name
    (folder / "large-int8").mkdir()
    # With random weights, one feed says as much about ranges as many.
    quantize(exact / "unet" / "model.onnx", folder / "large-int8" / "model.onnx", [folder / "feed.npz"])
    sessions = {
        "fp32": open_session(exact / "unet" / "model.onnx"),
        "int8": open_session(folder / "large-int8" / "model.onnx"),
    }
    seconds: Mapping[str, list[float]] = {precision: [] for precision in sessions}
    for turn in track(range(TIMED_STEPS + 1), description="time steps"):
        for precision, session in sessions.items():
            before = time.perf_counter()
            _run(session, feed)
            if turn:
                seconds[precision].append(time.perf_counter() - before)
    median = {precision: statistics.median(times) for precision, times in seconds.items()}
    for precision in sessions:
        report.rows.append(
            {"precision": precision, "shapes": "BK-SDM-Tiny, 512 x 512, batch 1", "step_s": median[precision]}
        )
    report.bars.append(Bar("int8, time of a step over fp32's", median["int8"] / median["fp32"], 0.6))


def write_large_model(folder: Path) -> Path:
    """A pipeline whose UNet has BK-SDM-Tiny's shapes (arXiv 2305.15798) and random weights; the rest is small."""
    import torch
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(MODEL / "tokenizer", model_max_length=77)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = StableDiffusionPipeline.from_pretrained(
            MODEL,
            torch_dtype=torch.float32,
            safety_checker=None,
            tokenizer=tokenizer,
            text_encoder=CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=len(tokenizer),
                    hidden_size=768,
                    intermediate_size=64,
                    num_hidden_layers=1,
                    num_attention_heads=12,
                    max_position_embeddings=77,
                    bos_token_id=tokenizer.bos_token_id,
                    eos_token_id=tokenizer.eos_token_id,
                    pad_token_id=tokenizer.pad_token_id,
                )
            ),
            vae=AutoencoderKL(
                block_out_channels=(8, 8, 8, 8),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                norm_num_groups=4,
                mid_block_add_attention=False,
            ),
            unet=UNet2DConditionModel(
                sample_size=64,
                block_out_channels=(320, 640, 1280),
                down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                mid_block_type=None,
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
                layers_per_block=1,
                cross_attention_dim=768,
                attention_head_dim=8,
            ),
        )
    pipeline.save_pretrained(folder)
    return folder


def _run(session: ort.InferenceSession, feed: Feed) -> npt.NDArray[np.float32]:
    result: npt.NDArray[np.float32] = session.run(["out_sample"], feed)[0]
    return result


def _relative(found: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> float:
    """Root mean square of the difference over that of what was wanted."""
    return float(np.sqrt(((found - wanted) ** 2).mean() / (wanted**2).mean()))


def _psnr(found: Sequence[Image.Image], wanted: Sequence[Image.Image]) -> float | None:
    """Mean over the pictures in decibel; None if they are equal."""
    pairs = zip(found, wanted, strict=True)
    errors = [float(((np.asarray(a, np.float32) - np.asarray(b, np.float32)) ** 2).mean()) for a, b in pairs]
    if not any(errors):
        return None
    # A picture without any difference counts as one of a hundredth of a step.
    return float(np.mean([10 * np.log10(255**2 / max(error, 1e-2)) for error in errors]))


if __name__ == "__main__":
    main()
