"""int8 graphs: what is quantised and what is not, adapters on them, and whole bundles in each precision."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from edge_sdk.errors import CalibrationError, ExportError
from edge_sdk.inference import Bundle, Generator
from edge_sdk.inference.bundle.index import INDEX, BundlePrecision, hash_files, write_index
from edge_sdk.inference.runtime.sessions import open_session
from export import export_model
from export.graphs import PRODUCTS, is_lora, saving
from export.precision import PROMPTS, convert, quantize, read_feed, record
from tests.models import SESSION, tiny_bundle, tiny_model

Feed = dict[str, npt.NDArray[np.float32]]
# Eight bits for weights and activations of some dozens of layers; the weights are random.
STEP_TOLERANCE = 0.07
# An adapter's effect, measured along its effect on float32, whose part that is only rounding averages out.
GAIN_TOLERANCE = 0.05
# The stages whose arithmetic or weights change and that drawing runs.
CONVERTED: dict[BundlePrecision, set[str]] = {"fp16": {"text_encoder", "unet", "vae_decoder"}, "int8": {"unet"}}


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="impasto-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def quantized() -> tuple[Path, list[Path]]:
    """The int8 form of a tiny UNet, and the feeds that it was calibrated with."""
    folder = _folder()
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


def test_weights_have_seven_bits() -> None:
    """Two products of an activation (0 to 255) and a weight fit into 16 bits, in which x86 without VNNI adds them."""
    dequantized = [node.inputs[1].producer() for node in graph() if node.op_type in PRODUCTS and node.inputs[1]]
    values = [node.inputs[0].const_value for node in dequantized if node and node.op_type == "DequantizeLinear"]
    sizes = [int(np.abs(value.numpy().astype(np.int64)).max()) for value in values if value is not None]
    assert len(sizes) > 40
    assert 2 * 255 * max(sizes) < 2**15


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
    exact = tiny_bundle() / "unet" / "model.onnx"
    rng = np.random.default_rng(0)
    factors: Feed = {}
    for slot in Bundle.load(tiny_bundle()).index.slots:
        factors[slot.input_a] = rng.standard_normal((slot.in_features, 16), np.float32) / slot.in_features**0.5
        factors[slot.input_b] = np.float32(0.3) * rng.standard_normal((16, slot.out_features), np.float32) / 4
    given = [read_feed(file) for file in feeds]
    plain, adapted, int8_plain, int8_adapted = (
        np.concatenate([run(graph, {**feed, **extra}) for feed in given])
        for graph in (exact, path)
        for extra in ({}, factors)
    )
    effect, int8_effect = adapted - plain, int8_adapted - int8_plain
    assert relative(adapted, plain) > 0.15
    assert abs(float((effect * int8_effect).sum() / (effect * effect).sum()) - 1) < GAIN_TOLERANCE
    # And what is drawn with it is as near to float32 as what is drawn without.
    assert relative(int8_adapted, adapted) < STEP_TOLERANCE


def test_lora_has_the_inputs_that_it_has_in_float32() -> None:
    exact = {node.name: node for node in ir.load(tiny_bundle() / "unet" / "model.onnx").graph}
    for node in graph():
        if node.name and node.name.endswith(".lora_down"):
            now, then = node.inputs[0], exact[node.name].inputs[0]
            assert now is not None
            assert then is not None
            assert now.name == then.name


@functools.cache
def bundle(precision: BundlePrecision) -> Path:
    """A tiny bundle, converted; its errors are checked here."""
    folder = shutil.copytree(tiny_bundle(), _folder() / precision)
    errors = convert(folder, precision, PROMPTS[:4])
    assert set(errors) == {f"{stage} in {precision}" for stage in CONVERTED[precision]}
    assert all(0 < error < STEP_TOLERANCE for error in errors.values())
    return folder


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_bundle_says_what_it_is_and_draws_nearly_the_same(precision: BundlePrecision) -> None:
    made, exact = Bundle.load(bundle(precision)), Bundle.load(tiny_bundle())
    assert (made.index.precision, exact.index.precision) == (precision, "fp32")
    assert made.index.base_id == exact.index.base_id
    assert made.index.slots == exact.index.slots
    pictures = [
        np.asarray(Generator(each, threads=1).generate("a fox", seed=1, steps=4, guidance=2)[0], np.float32)
        for each in (exact, made)
    ]
    assert pictures[0].std() > 5
    assert np.abs(pictures[0] - pictures[1]).mean() < 5
    # Nothing is left of the conversion.
    assert {path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*") if path.is_file()} == {
        *exact.index.files,
        INDEX,
    }


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_weights_that_lay_beside_the_graph_move_into_it_when_they_have_become_small(
    precision: BundlePrecision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a UNet of 16 million parameters: 64 MB in float32, and below the bound in less."""
    folder = shutil.copytree(tiny_bundle(), tmp_path / precision)
    unet = folder / "unet" / "model.onnx"
    monkeypatch.setattr(saving, "_INLINE_BYTES", int(0.7 * unet.stat().st_size))
    saving.replace_graph(ir.load(unet), unet)
    assert (folder / "unet" / saving.WEIGHTS).exists()
    index = msgspec.structs.replace(Bundle.load(folder, verify=False).index, files=hash_files(folder))
    write_index(folder, index)
    convert(folder, precision, PROMPTS[:4])
    assert not (folder / "unet" / saving.WEIGHTS).exists()
    drawn, wanted = (
        Generator.load(each, threads=1).generate("a fox", seed=1, steps=2)[0] for each in (folder, bundle(precision))
    )
    assert drawn.tobytes() == wanted.tobytes()


def test_every_precision_is_reproducible_in_another_process(tmp_path: Path) -> None:
    """There the bundles come from the export itself, and sets have another order."""
    script = (
        "import sys\n"
        "from unittest.mock import patch\n"
        "import torch\n"
        "from export import export_model\n"
        "from export.precision import PROMPTS\n"
        "from tests.tracing import traced_once\n"
        "with traced_once(), patch('torch.export.export', wraps=torch.export.export) as traced:\n"
        "    for precision in ('fp16', 'int8'):\n"
        "        out = f'{sys.argv[2]}/{precision}'\n"
        "        export_model(sys.argv[1], out, precision=precision, prompts=PROMPTS[:4], verify=False)\n"
        "print(traced.call_count)\n"
    )
    command = [sys.executable, "-c", script, str(tiny_model()), str(tmp_path)]
    # A session of its own has its own traces.
    session = tmp_path / "session"
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONHASHSEED": "1", SESSION: str(session)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    # torch never had to begin again with a bound that it was not told of.
    assert int(done.stdout) == len(list((session / "traces").glob("*/model.onnx"))) == 4
    for precision in CONVERTED:
        assert (tmp_path / precision / INDEX).read_bytes() == (bundle(precision) / INDEX).read_bytes()
        Bundle.load(tmp_path / precision)
    assert len({(folder / INDEX).read_bytes() for folder in (tiny_bundle(), *map(bundle, CONVERTED))}) == 3


def test_what_cannot_be_converted_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no precision 'int4': choose one of fp32, fp16, int8"):
        export_model(tiny_model(), tmp_path / "out", precision=cast("BundlePrecision", "int4"))
    with pytest.raises(CalibrationError, match="2 different prompts are too few"):
        export_model(tiny_model(), tmp_path / "out", precision="int8", prompts=["a fox", "an owl"])
    assert not any(tmp_path.iterdir())
