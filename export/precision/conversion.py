"""Conversion of a float32 bundle to another precision.

    fp16   the denoiser and the text encoder compute in float16, the autoencoder stores its weights in float16
    int8   the denoiser computes in int8, the rest is unchanged

Bundles are converted in place, in a folder that nobody uses yet.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edge_sdk.errors import ExportError, VerificationFailed
from edge_sdk.inference.bundle import Bundle, BundlePrecision, hash_files, write_index
from edge_sdk.inference.runtime import open_session
from export.graphs import replace_graph
from export.precision.calibration import FEWEST_PROMPTS, PROMPTS, check_prompts, read_feed, record
from export.precision.half import compute_in_half, store_in_half
from export.precision.quantization import quantize

PRECISIONS: tuple[BundlePrecision, ...] = get_args(BundlePrecision)
_HALVED = frozenset({"text_encoder", "text_encoder_2", "unet"})
_COMPARED = 8


def check_precision(precision: str, prompts: Sequence[str] | None) -> None:
    """Refuse before the export what `convert` would refuse.

    Raises:
        ExportError: the precision is unknown.
        CalibrationError: there are too few prompts.
    """
    if precision not in PRECISIONS:
        raise ExportError(f"There is no precision {precision!r}: choose one of {', '.join(PRECISIONS)}.")
    if prompts is not None:
        check_prompts(prompts)


def convert(
    folder: Path,
    precision: BundlePrecision,
    prompts: Sequence[str] | None = None,
    on_progress: Callable[[str, float], None] = lambda what, share: None,
) -> dict[str, float]:
    """Convert a float32 bundle in place.

    Args:
        folder: the bundle.
        precision: the new precision.
        prompts: prompts to calibrate int8 with; None: `export.precision.PROMPTS`.
        on_progress: called with the present step in words and the share of it that is done.

    Returns:
        Name of each changed graph ("unet in int8") -> root mean square of its difference from float32, relative, over
            steps of real drawings.

    Raises:
        CalibrationError: there are too few prompts, or one that cannot be drawn.
        VerificationFailed: a converted graph returns numbers that are not finite.
    """
    if precision == "fp32":
        return {}
    # Read before the conversion, which may remove a file of weights that this index still names.
    index = Bundle.load(folder, verify=False).index
    with tempfile.TemporaryDirectory(prefix="impasto-calibration-") as spool:

        def drawn(done: int, total: int) -> None:
            on_progress(f"draw to convert to {precision}", done / total)

        drawn(0, 1)
        if precision == "int8":
            feeds = record(folder, Path(spool), prompts or PROMPTS, on_progress=drawn)
        else:
            # Only to measure the error of the conversion.
            few = PROMPTS[:FEWEST_PROMPTS]
            feeds = record(folder, Path(spool), few, pictures=len(few), steps=6, on_progress=drawn)
        wanted = {stage: _outputs(folder, stage, files) for stage, files in feeds.items()}
        on_progress(f"convert to {precision}", 0.5)
        if precision == "int8":
            quantize(folder / "unet" / "model.onnx", folder / "unet" / "model.onnx", feeds["unet"])
            changed: tuple[str, ...] = ("unet",)
        else:
            for part in index.stages:
                path = folder / part / "model.onnx"
                model = ir.load(path)
                (compute_in_half if part in _HALVED else store_in_half)(model)
                replace_graph(model, path)
            changed = index.stages
        errors = {
            f"{stage} in {precision}": relative_rms(_outputs(folder, stage, files), wanted[stage])
            for stage, files in feeds.items()
            if stage in changed
        }
    for what, error in errors.items():
        if not np.isfinite(error):
            raise VerificationFailed(
                f"The {what} gives numbers that are not finite: this base model needs --precision fp32. "
                "Nothing was written."
            )
    write_index(folder, msgspec.structs.replace(index, precision=precision, files=hash_files(folder)))
    return errors


def relative_rms(found: Sequence[npt.NDArray[np.float32]], wanted: Sequence[npt.NDArray[np.float32]]) -> float:
    """Return the root mean square of the difference over that of `wanted`."""
    difference = sum(float(((a.astype(np.float64) - b) ** 2).sum()) for a, b in zip(found, wanted, strict=True))
    size = sum(float((b.astype(np.float64) ** 2).sum()) for b in wanted)
    return float((difference / size) ** 0.5)


def _outputs(folder: Path, stage: str, files: Sequence[Path]) -> list[npt.NDArray[np.float32]]:
    """Return a graph's results for some of the recorded inputs, spread over all of them."""
    session = open_session(folder / stage / "model.onnx")
    name = session.get_outputs()[0].name
    chosen = sorted({round(at) for at in np.linspace(0, len(files) - 1, _COMPARED)})
    return [session.run([name], read_feed(files[at]))[0] for at in chosen]
