"""One base model: written, exported or drawn, each in a process of its own, so that each has its own peak of memory.

benchmarks.models starts `main` with a command, the model's folder and the options as JSON; the answer is a line of
JSON. The folder holds model/, preview/ and bundle/. Drawing imports only packages that a device has: no torch.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.shared.harness import Cell, folder_mb
from benchmarks.shared.memory import Peak, total_peak

if TYPE_CHECKING:
    from edge_sdk.adapter import Shape

RANK = 16
PROMPT = "a red fox"
# A picture counts as drawn above this standard deviation of its pixels, which go from 0 to 255.
VARIED = 1.0
Facts: TypeAlias = dict[str, Cell]
Pixels: TypeAlias = npt.NDArray[np.float32]


def write(folder: Path, *, name: str, quick: bool, preview: bool, seed: int) -> Facts:
    """Write the diffusers folder of a model, and of a tiny autoencoder if it is to have one."""
    from benchmarks.families.architectures import ARCHITECTURES, narrow
    from benchmarks.families.base_models import parameters, write_model, write_preview

    architecture = narrow(ARCHITECTURES[name]) if quick else ARCHITECTURES[name]
    write_model(folder / "model", architecture, half=True, seed=seed)
    if preview:
        write_preview(folder / "preview", small=quick)
    return {"title": architecture.title, "unet_millions": parameters(architecture) / 1e6}


def export(folder: Path) -> Facts:
    """Make the bundle, every part compared with torch."""
    from export import export_model

    preview = folder / "preview" if (folder / "preview").exists() else None
    phases = _Phases()
    made = export_model(folder / "model", folder / "bundle", preview=preview, on_progress=phases.begin)
    errors = made.errors

    def worst(*parts: str) -> float | None:
        return max((error for what, error in errors.items() if what.startswith(parts)), default=None)

    return {
        "export_s": phases.seconds(lambda what: not what.startswith("verify")),
        "verify_s": phases.seconds(lambda what: what.startswith("verify")),
        "slots": len(made.index.slots),
        "bundle_mb": folder_mb(folder / "bundle"),
        "text_error": worst("text_encoder"),
        "unet_error": max(errors["unet"], errors["unet, oblong"]),
        "unet_with_adapter_error": errors["unet with adapter"],
        "vae_error": worst("vae_decoder", "vae_encoder"),
        "preview_error": worst("preview_decoder"),
    }


def draw(folder: Path, *, steps: int, limit: str | None, from_picture: bool, seed: int) -> Facts:
    """Draw without an adapter, with one, and without again; from a picture, if that is asked for."""
    from edge_sdk.inference import Bundle, Generator

    bundle = Bundle.load(folder / "bundle", verify=False)
    index = bundle.index
    stages = _timed(bundle, limit)
    # Only LCMs are drawn with guidance: it is an input to them, and costs nothing.
    options: dict[str, Any] = {"seed": seed, "steps": steps, "guidance": None if index.guidance_dim else 1.0}
    with Generator(bundle, stages=stages) as generator:
        adapter = _adapter(generator.slots, index.base_id, seed)
        plain, before = _pixels_and_latents(generator, options)
        changed, _ = _pixels_and_latents(generator, options | {"adapters": [(adapter, 1.0)]})
        _, after = _pixels_and_latents(generator, options, decode=False)
        facts: Facts = {
            "size": index.image_size,
            "steps": steps,
            "scheduler": index.defaults.scheduler,
            "limit": limit,
            "step_s": stages.seconds("unet"),
            "decode_s": stages.seconds("vae_decoder"),
            "deviation": float(plain.std()),
            "drawn": int(plain.std() > VARIED),
            "switch_ms": _switch_ms(index.slots, adapter),
            "adapter_change": float(np.abs(changed - plain).mean()),
            "switched": int(np.abs(changed - plain).max() >= 1),
            "restored": int(before.tobytes() == after.tobytes()),
        }
        if index.preview_scaling_factor is not None:
            for _ in range(2):
                generator.preview(before)
            facts["preview_s"] = stages.seconds("preview_decoder")
        if from_picture:
            from PIL import Image

            start = Image.fromarray(plain.astype(np.uint8))
            again, _ = _pixels_and_latents(generator, options | {"picture": start, "strength": 0.5})
            facts |= {
                "encode_s": stages.seconds("vae_encoder"),
                "from_picture_change": float(np.abs(again - plain).mean()),
                "from_picture": int(again.std() > VARIED),
            }
    return facts


class _Phases:
    """Seconds of each phase that an export reports."""

    def __init__(self) -> None:
        self._begun: list[tuple[str, float]] = []

    def begin(self, what: str, share: float) -> None:
        self._begun.append((what, time.perf_counter()))

    def seconds(self, chosen: Callable[[str], bool]) -> float:
        """Seconds of the phases that are chosen by name; the last one lasts until now."""
        ends = [begun for _, begun in self._begun[1:]] + [time.perf_counter()]
        return sum(end - begun for (what, begun), end in zip(self._begun, ends, strict=True) if chosen(what))


def _timed(bundle: Any, limit: str | None) -> Any:
    """Stages of a bundle that time their runs; they are not prepared, so that only the bundle is on disk."""
    from edge_sdk.inference.runtime import Stages

    class Timed(Stages):
        def __init__(self) -> None:
            super().__init__(bundle, memory_limit=limit, prepare=False)
            self.runs: list[tuple[str, bool, float]] = []

        def run(self, stage: str, outputs: Sequence[str], feed: Mapping[str, Any]) -> list[Any]:
            was_open, began = stage in self.opened, time.perf_counter()
            results = super().run(stage, outputs, feed)
            self.runs.append((stage, was_open, time.perf_counter() - began))
            return results

        def seconds(self, stage: str) -> float:
            """Median seconds of the runs that found the stage open; of all its runs if none did."""
            opened = [took for name, was_open, took in self.runs if name == stage and was_open]
            return statistics.median(opened or [took for name, _, took in self.runs if name == stage])

    return Timed()


def _adapter(slots: Mapping[str, Shape], base_id: str, seed: int) -> Any:
    """Random factors about a third as large as the weights."""
    from edge_sdk.adapter import Adapter, Factors

    rng = np.random.default_rng(seed)
    layers = {
        name: Factors(
            rng.standard_normal((RANK, shape.in_features), np.float32) / np.float32(shape.in_features**0.5),
            np.float32(0.3 / RANK**0.5) * rng.standard_normal((shape.out_features, RANK), np.float32),
            shape.kernel,
        )
        for name, shape in slots.items()
    }
    return Adapter(layers, base_id)


def _pixels_and_latents(generator: Any, options: Mapping[str, Any], *, decode: bool = True) -> tuple[Pixels, Pixels]:
    """Pixels, 0 to 255, and the latents that they were decoded from; without decoding, no pixels."""
    last: list[Pixels] = []

    def keep(step: int, total: int, latents: Pixels) -> bool:
        last[:] = [latents.copy()]
        return decode or step < total

    pictures = generator.generate(PROMPT, on_step=keep, **options)
    pixels = np.stack([np.asarray(picture, np.float32) for picture in pictures])[0] if pictures else np.empty(0)
    return pixels.astype(np.float32), last[0]


def _switch_ms(slots: Sequence[Any], adapter: Any) -> float:
    """Milliseconds between two drawings with different adapters: no checks, only feeding other arrays."""
    from edge_sdk.inference.adapters import to_feed

    by_name = {slot.name: slot for slot in slots}
    times = []
    for _ in range(5):
        began = time.perf_counter()
        to_feed([(adapter, 1.0)], by_name)
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)


COMMANDS: Mapping[str, Callable[..., Facts]] = {"write": write, "export": export, "draw": draw}


@contextmanager
def _quiet_output() -> Iterator[Any]:
    """Keep standard output for the answer; text that libraries print goes to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        yield answers


def main() -> None:
    """Run one command and print its answer."""
    command, folder, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    with _quiet_output() as answers:
        with Peak() as peak:
            facts = COMMANDS[command](folder, **options)
        facts |= {f"{command}_anonymous_peak_mb": peak.bytes / 1e6, f"{command}_peak_mb": total_peak() / 1e6}
        print(json.dumps(facts), file=answers)
