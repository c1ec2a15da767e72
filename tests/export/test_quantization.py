"""int8 graphs: what is quantised and what is not, adapters on them, and whole bundles in each precision."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from edge_sdk.errors import CalibrationError, ExportError
from edge_sdk.inference import Bundle, Generator
from edge_sdk.inference.bundle import Precision
from edge_sdk.inference.sessions import open_session
from export import export_model
from export.calibration import PROMPTS, read_feed, record
from export.layers import PRODUCTS
from export.precision import PRECISIONS
from export.quantization import is_lora, quantize
from tests.models import tiny_bundle, tiny_model

Feed = dict[str, npt.NDArray[np.float32]]
# Eight bits for weights and activations of some dozens of layers; the weights are random.
STEP_TOLERANCE = 0.05
EFFECT_TOLERANCE = 0.1


@functools.cache
def quantized() -> tuple[Path, list[Path]]:
    """The int8 form of a tiny UNet, and the feeds that it was calibrated with."""
    folder = Path(tempfile.mkdtemp(prefix="impasto-int8-"))
    feeds = record(tiny_bundle(), folder, PROMPTS[:4], pictures=6, steps=6)["unet"]
    layers = quantize(tiny_bundle() / "unet" / "model.onnx", folder / "model.onnx", feeds)
    assert layers > 40
    return folder / "model.onnx", feeds


def graph() -> ir.Graph:
    return ir.load(quantized()[0]).graph


def run(path: Path, feed: Feed) -> npt.NDArray[np.float32]:
    result: npt.NDArray[np.float32] = open_session(path, threads=1).run(["out_sample"], feed)[0]
    return result


def relative(found: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt(((found - wanted) ** 2).mean() / (wanted**2).mean()))


def producer(value: ir.Value | None) -> str:
    node = None if value is None else value.producer()
    return "" if node is None else node.op_type


def test_products_are_int8_but_those_that_are_kept() -> None:
    products = [node for node in graph() if node.op_type in PRODUCTS and not is_lora(node.name or "")]
    weights = {node.name or "": producer(node.inputs[1]) for node in products}
    kept = {name for name, by in weights.items() if by != "DequantizeLinear"}
    assert {"unet.conv_in", "unet.conv_out", "unet.time_embedding.linear_1"} <= kept
    assert "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q" in set(weights) - kept
    assert len(kept) < len(weights) / 3


def test_lora_reads_the_same_x_as_in_float32_and_is_not_rounded() -> None:
    nodes = [node for node in graph() if node.name and is_lora(node.name)]
    assert len(nodes) == 3 * len(Bundle.load(tiny_bundle()).index.slots)
    for node in nodes:
        for value in node.inputs:
            assert producer(value) != "DequantizeLinear", node.name


def test_a_step_stays_near_float32() -> None:
    path, feeds = quantized()
    for file in feeds:
        feed = read_feed(file)
        error = relative(run(path, feed), run(tiny_bundle() / "unet" / "model.onnx", feed))
        assert 1e-4 < error < STEP_TOLERANCE


def test_an_adapter_changes_the_step_as_on_float32() -> None:
    path, feeds = quantized()
    rng = np.random.default_rng(0)
    factors: Feed = {}
    for slot in Bundle.load(tiny_bundle()).index.slots:
        factors[slot.input_a] = rng.standard_normal((slot.in_features, 16), np.float32) / slot.in_features**0.5
        factors[slot.input_b] = rng.standard_normal((16, slot.out_features), np.float32) / 4
    feed = read_feed(feeds[5])
    exact = tiny_bundle() / "unet" / "model.onnx"
    effect = run(exact, {**feed, **factors}) - run(exact, feed)
    assert relative(effect + run(exact, feed), run(exact, feed)) > 0.05
    assert relative(run(path, {**feed, **factors}) - run(path, feed), effect) < EFFECT_TOLERANCE


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_bundle_says_what_it_is_and_draws_nearly_the_same(tmp_path: Path, precision: Precision) -> None:
    made = export_model(tiny_model(), tmp_path / "bundle", precision=precision, prompts=PROMPTS[:4], verify=False)
    assert made.index.precision == Bundle.load(made.folder).index.precision == precision
    assert Bundle.load(tiny_bundle()).index.precision == "fp32"
    assert 0 < made.errors[f"unet in {precision}"] < STEP_TOLERANCE
    assert made.index.base_id == Bundle.load(tiny_bundle()).index.base_id
    pictures = [
        np.asarray(Generator.load(folder, threads=1).generate("a fox", seed=1, steps=4, guidance=2)[0], np.float32)
        for folder in (tiny_bundle(), made.folder)
    ]
    assert pictures[0].std() > 5
    assert np.abs(pictures[0] - pictures[1]).mean() < 5
    assert [path.name for path in (made.folder / "unet").iterdir() if path.name.startswith(".")] == []


def test_every_precision_is_reproducible_in_another_process(tmp_path: Path) -> None:
    script = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from export import export_model\n"
        "from export.calibration import PROMPTS\n"
        "model, out = map(Path, sys.argv[1:])\n"
        "made = {p: export_model(model, out / p, precision=p, prompts=PROMPTS[:4], verify=False).index.files\n"
        "        for p in ('fp32', 'fp16', 'int8')}\n"
        "print(json.dumps(made))\n"
    )
    found = []
    for number in range(2):
        command = [sys.executable, "-c", script, str(tiny_model()), str(tmp_path / str(number))]
        environment = os.environ | {"PYTHONHASHSEED": str(number)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout.splitlines()[-1]))
    assert found[0] == found[1]
    assert len({found[0][precision]["unet/model.onnx"] for precision in PRECISIONS}) == 3


def test_what_cannot_be_converted_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no precision 'int4': choose one of fp32, fp16, int8"):
        export_model(tiny_model(), tmp_path / "out", precision=cast("Precision", "int4"))
    with pytest.raises(CalibrationError, match="2 different prompts are too few"):
        export_model(tiny_model(), tmp_path / "out", precision="int8", prompts=["a fox", "an owl"])
    assert not any(tmp_path.iterdir())
