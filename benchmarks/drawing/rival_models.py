"""Files that the rows of benchmarks.inference open: one model in the form of each library, and adapters for it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from benchmarks.drawing.rivals import ROWS, WEIGHTS
from benchmarks.families.architectures import ARCHITECTURES
from benchmarks.families.base_models import write_model
from benchmarks.shared.environments import once, python_of, run_python
from edge_sdk import adapter
from edge_sdk.adapter import Adapter

RANK = 16
# OpenVINO GenAI wants tokenizers as graphs of their own.
_CONVERT = """
import sys
import openvino
from openvino_tokenizers import convert_tokenizer
from optimum.intel import OVStableDiffusionPipeline
from transformers import AutoTokenizer
model, out = sys.argv[1:]
OVStableDiffusionPipeline.from_pretrained(model, export=True, compile=False, load_in_8bit=False).save_pretrained(out)
tokenizer = convert_tokenizer(AutoTokenizer.from_pretrained(f"{out}/tokenizer"))
openvino.save_model(tokenizer, f"{out}/tokenizer/openvino_tokenizer.xml")
"""


def prepare(place: Path, seed: int) -> dict[str, str]:
    """Make the model, its exports and adapters; return row -> the reason why it cannot be measured."""
    from export import export_model

    missing: dict[str, str] = {}
    place.mkdir(parents=True, exist_ok=True)
    with once(place / "model") as made:
        if made is not None:
            write_model(made, ARCHITECTURES[place.name])
    with once(place / "fp32") as made:
        if made is not None:
            export_model(place / "model", made, verify=False)
    if not (place / f"adapter-{len(WEIGHTS) - 1}.safetensors").exists():
        _write_adapters(place, seed)
    try:
        with once(place / "optimum") as made:
            if made is not None:
                _export_with_optimum(place / "model", made)
    # Any error of its export becomes the row's reason.
    except Exception as error:
        missing |= dict.fromkeys(("optimum", "OpenVINO bf16, no slots"), f"its export failed: {error}"[:200])
    with once(place / "int8") as made:
        if made is not None:
            _quantize(place, made)
    return missing


def prepare_apart(place: Path, environments: Path) -> dict[str, str]:
    """Convert the model for OpenVINO GenAI in optimum-intel's environment; return row -> why it cannot be measured."""
    rows = [row for row, rival in ROWS.items() if rival.opens.startswith("genai")]
    if not all(python_of(row, environments).exists() for row in rows):
        return dict.fromkeys(rows, "not installed")
    try:
        with once(place / "genai") as made:
            if made is not None:
                made.mkdir()
                python = environments / "optimum-intel" / "bin" / "python"
                run_python(python, _CONVERT, place / "model", made)
                for file in sorted(place.glob("adapter-*.safetensors")):
                    write_kohya(adapter.load(file), made / file.name)
    # An error of its conversion becomes the rows' reason.
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        return dict.fromkeys(rows, f"its conversion failed: {error}"[:200])
    return {}


def write_kohya(adapter: Adapter, file: Path) -> None:
    """Write an adapter under the names that OpenVINO GenAI reads."""
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for layer, factors in adapter.layers.items():
        name = "lora_" + layer.replace(".", "_")
        tensors |= {f"{name}.lora_down.weight": factors.a, f"{name}.lora_up.weight": factors.b}
        tensors[f"{name}.alpha"] = np.array(factors.rank, np.float32)
    save_file(tensors, file)


def _export_with_optimum(model: Path, out: Path) -> None:
    """Export the whole pipeline with optimum and keep the UNet."""
    code = (
        "import sys; from optimum.exporters.onnx import main_export; "
        "main_export(sys.argv[1], sys.argv[2], task='text-to-image', do_validation=False)"
    )
    run_python(Path(sys.executable), code, model, out)


def _quantize(place: Path, out: Path) -> None:
    from benchmarks.drawing.rivals import Torch
    from export.precision import quantize

    # With random weights, one feed shows the ranges as well as many do.
    feed = {**Torch(place).inputs(1), "timestep": np.full(1, 601, np.float32)}
    with tempfile.TemporaryDirectory(prefix="impasto-benchmark-") as folder:
        np.savez(Path(folder) / "feed.npz", **feed)  # type: ignore[arg-type]  # an option is typed as any name
        (out / "unet").mkdir(parents=True)
        quantize(place / "fp32" / "unet" / "model.onnx", out / "unet" / "model.onnx", [Path(folder) / "feed.npz"])


def _write_adapters(place: Path, seed: int) -> None:
    from edge_sdk.inference.bundle import Bundle

    index = Bundle.load(place / "fp32", verify=False).index
    for number in range(len(WEIGHTS)):
        rng = np.random.default_rng([seed, number])
        layers = {
            slot.name: adapter.Factors(
                rng.standard_normal((RANK, slot.in_features), np.float32) / slot.in_features**0.5,
                0.1 * rng.standard_normal((slot.out_features, RANK), np.float32) / RANK**0.5,
                slot.kernel,
            )
            for slot in index.slots
        }
        adapter.save(adapter.Adapter(layers, index.base_id), place / f"adapter-{number}.safetensors")
