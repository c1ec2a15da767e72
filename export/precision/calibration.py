"""Calibration data: inputs of a bundle's graphs while it draws, from which eight-bit ranges are chosen.

The float32 bundle itself draws the prompts, each picture from another seed, with weak, usual and strong guidance in
turn. Some steps of every picture are kept, different ones for each, so that together they cover the whole way from
noise to picture. They are written to disk, so that memory holds one step.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from onnxruntime.quantization import CalibrationDataReader

from edge_sdk.errors import CalibrationError, ImpastoError
from edge_sdk.inference import Bundle, Generator, PromptTruncated
from edge_sdk.inference.runtime import Stages
from export.lines import read_lines

# Stage -> files of one recorded feed each.
Recording: TypeAlias = dict[str, list[Path]]
FEWEST_PROMPTS = 4
PROMPTS = (
    "a photo of a red fox in the snow",
    "portrait of an old fisherman, oil painting",
    "a bowl of fruit on a wooden table, soft morning light",
    "a city street at night in the rain, neon signs",
    "watercolour of a mountain lake",
    "a white cat asleep on a blue sofa",
    "an astronaut riding a horse, detailed illustration",
    "a bouquet of tulips in a glass vase",
    "a steam locomotive crossing a bridge, black and white photo",
    "a cup of coffee seen from above",
    "an old castle on a cliff above the sea, dramatic sky",
    "flat icon of an umbrella on a white background",
    "a close-up of a green eye",
    "children playing football on a beach, 1970s snapshot",
    "a wooden chair in an empty room",
    "a dragon made of glass, studio lighting",
)
_STEPS = 12
_FEW_STEPS = 9
# One step in three is kept of each picture.
_STRIDE = 3
_GUIDANCE = (1.5, 4.0, 7.5)
_PICTURES = 16


def read_prompts(path: Path) -> list[str]:
    """Return the prompts of a text file, one a line; empty lines are skipped.

    Raises:
        CalibrationError: the file cannot be read, or holds fewer than `FEWEST_PROMPTS`.
    """
    try:
        prompts = read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"The prompts in {path} cannot be read ({error}): give a UTF-8 text file.") from error
    if not prompts:
        raise CalibrationError(f"{path} is empty: write one prompt a line, at least {FEWEST_PROMPTS} different ones.")
    check_prompts(prompts)
    return prompts


def check_prompts(prompts: Sequence[str]) -> None:
    """Raise CalibrationError unless there are at least `FEWEST_PROMPTS` different prompts."""
    if len(set(prompts)) < FEWEST_PROMPTS:
        raise CalibrationError(
            f"{len(set(prompts))} different prompts are too few to calibrate with: give at least {FEWEST_PROMPTS}, "
            "better 16, of the kind that people will type."
        )


def record(
    bundle: Path,
    folder: Path,
    prompts: Sequence[str],
    *,
    pictures: int = _PICTURES,
    steps: int = _STEPS,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Recording:
    """Draw with a float32 bundle and write the inputs of its graphs into `folder`.

    Args:
        bundle: the bundle.
        folder: folder of the recorded inputs.
        prompts: prompts to draw.
        pictures: number of pictures; prompts are used in turn, and every prompt is drawn at least once.
        steps: steps of each picture, unless the base model is distilled to a few.
        seed: seed of the first picture.
        on_progress: called after every picture with the number of finished pictures and of all.

    Returns:
        Stage -> files of recorded inputs.

    Raises:
        CalibrationError: there are too few prompts, or one that the bundle cannot read.
    """
    check_prompts(prompts)
    loaded = Bundle.load(bundle, verify=False)
    defaults = loaded.index.defaults
    # Models distilled to a few steps are drawn with these and their own guidance, nothing else.
    distilled = defaults.steps < _FEW_STEPS
    steps, scales = (defaults.steps, (defaults.guidance,)) if distilled else (steps, _GUIDANCE)
    total = max(pictures, len(prompts))
    tap = _Tap(loaded, folder)
    generator = Generator(loaded, stages=tap)
    for picture in range(total):
        tap.begin(picture)
        guidance = scales[picture % len(scales)]
        prompt = prompts[picture % len(prompts)]
        try:
            with warnings.catch_warnings():
                # The part cut off a long prompt does not matter here.
                warnings.simplefilter("ignore", PromptTruncated)
                generator.generate(prompt, seed=seed + picture, steps=steps, guidance=guidance)
        except ImpastoError as error:
            raise CalibrationError(f"Calibration cannot draw a prompt: {error}") from error
        on_progress(picture + 1, total)
    return tap.files


class Feeds(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is not type-checked
    """Reads recorded inputs one by one, as onnxruntime's calibration requests them."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)
        self.set_range(0, len(files))

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        file = next(self._left, None)
        return None if file is None else read_feed(file)

    def __len__(self) -> int:
        return len(self._files)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._files[start_index:end_index])


def read_feed(file: Path) -> dict[str, npt.NDArray[Any]]:
    """Return one recorded feed: input -> array."""
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


class _Tap(Stages):
    """Stages that record their inputs."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        # Nobody draws with this bundle again.
        super().__init__(bundle, prepare=False)
        self._folder = folder
        self._picture = 0
        self._calls: dict[str, int] = {}
        self.files: Recording = {}

    def begin(self, picture: int) -> None:
        """Start recording a picture."""
        self._picture, self._calls = picture, {}

    def run(
        self, stage: str, outputs: Sequence[str], feed: Mapping[str, npt.NDArray[Any]]
    ) -> list[npt.NDArray[np.float32]]:
        """Run as `Stages.run`, and record the inputs of every step that is due."""
        call = self._calls.get(stage, 0)
        self._calls[stage] = call + 1
        # Text encoder and decoder are called once a picture, and always kept.
        if stage != "unet" or (call + self._picture) % _STRIDE == 0:
            file = self._folder / f"{stage}-{self._picture:04d}-{call:04d}.npz"
            np.savez(file, **feed)  # type: ignore[arg-type]  # an option is typed as if it took any name
            self.files.setdefault(stage, []).append(file)
        return super().run(stage, outputs, feed)
