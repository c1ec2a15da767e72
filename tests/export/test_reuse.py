"""The UNet in two graphs: what the shallow one computes, holds, and what drawing with it gives."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from PIL import Image

from edge_sdk.adapter import Adapter, Factors
from edge_sdk.errors import BundleError, ExportError, VerificationFailed
from edge_sdk.inference import Bundle, Generator
from edge_sdk.inference.runtime.stages import Stages
from export.graphs import WEIGHTS, check_split, split_unet
from tests.models import LATENT_SHAPE, tiny_bundle

PROMPT = "a red fox, flat icon"


class Counted(Stages):
    """Stages that count their runs."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, threads=1)
        self.runs: list[str] = []

    def run(self, stage: str, outputs: Sequence[str], feed: Mapping[str, npt.NDArray[Any]]) -> list[Any]:
        self.runs.append(stage)
        return super().run(stage, outputs, feed)


@functools.cache
def bundle() -> Bundle:
    return Bundle.load(tiny_bundle("sd2"))


def an_adapter(generator: Generator) -> Adapter:
    rng = np.random.default_rng(0)
    return Adapter(
        {
            name: Factors(
                rng.standard_normal((4, inputs)).astype(np.float32) / np.float32(inputs**0.5),
                rng.standard_normal((outputs, 4)).astype(np.float32) * np.float32(0.3),
            )
            for name, (inputs, outputs, _) in generator.slots.items()
        }
    )


def distance(x: list[Image.Image], y: list[Image.Image]) -> float:
    return float(
        np.mean([np.abs(np.asarray(a, float) - np.asarray(b, float)).mean() for a, b in zip(x, y, strict=True)])
    )


def test_the_shallow_graph_has_the_slots_of_the_outer_blocks_only() -> None:
    slots = [slot.name for slot in bundle().index.slots]
    outer = [name for name in slots if name.startswith(("unet.down_blocks.0.", "unet.up_blocks.1."))]
    assert bundle().index.shallow_slots == outer
    assert 0 < len(outer) < len(slots)


def test_both_graphs_share_one_file_of_weights(tmp_path: Path) -> None:
    source = Bundle.load(tiny_bundle("epsilon"))
    model = ir.load(source.path("unet/model.onnx"))
    ir.save(model, tmp_path / "model.onnx", external_data=WEIGHTS)
    before = (tmp_path / WEIGHTS).read_bytes()
    split_unet(tmp_path, source.index.slots)
    assert check_split(tmp_path, LATENT_SHAPE) < 1e-5
    assert (tmp_path / WEIGHTS).read_bytes() == before
    assert (tmp_path / "shallow.onnx").stat().st_size < 0.1 * len(before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", WEIGHTS, "shallow.onnx"]
    nodes = [
        len(onnx.load(tmp_path / name, load_external_data=False).graph.node) for name in ("shallow.onnx", "model.onnx")
    ]
    assert nodes[0] < 0.5 * nodes[1]


def test_a_shallow_graph_of_another_unet_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle("sd2") / "unet", tmp_path / "unet")
    model = ir.load(tmp_path / "unet" / "shallow.onnx")
    weight = next(
        value for value in model.graph.initializers.values() if value.name and "conv_out.weight" in value.name
    )
    assert weight.const_value is not None
    weight.const_value = ir.tensor(weight.const_value.numpy() + np.float32(0.1), name=weight.name)
    ir.save(model, tmp_path / "unet" / "shallow.onnx")
    with pytest.raises(VerificationFailed, match="shallow part of the UNet differs"):
        check_split(tmp_path / "unet", LATENT_SHAPE)


def test_a_unet_without_levels_has_no_place_to_cut(tmp_path: Path) -> None:
    shutil.copy(tiny_bundle("sd2") / "vae_decoder" / "model.onnx", tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="no upsampler to cut it at"):
        split_unet(tmp_path, [])


@pytest.mark.parametrize(("reuse", "whole"), [(1, 7), (2, 4), (3, 3), (9, 1)])
def test_the_deep_part_runs_at_every_nth_step(reuse: int, whole: int) -> None:
    stages = Counted(bundle())
    Generator(bundle(), stages=stages).generate(PROMPT, seed=1, steps=7, reuse=reuse)
    assert stages.runs.count("unet") == whole
    assert stages.runs.count("unet_shallow") == 7 - whole


def test_pictures_stay_near_and_adapters_act_in_both_graphs() -> None:
    generator = Generator(bundle(), threads=1)
    draw = functools.partial(generator.generate, PROMPT, seed=1, steps=10, count=2)
    adapter = an_adapter(generator)
    exact, reused = draw(), draw(reuse=2)
    assert reused != exact
    changed, changed_reused = draw(adapters=[(adapter, 1.0)]), draw(adapters=[(adapter, 1.0)], reuse=2)
    assert distance(exact, changed) > 4 * distance(changed, changed_reused)
    assert distance(exact, changed) > 4 * distance(exact, reused)
    # Steps after the first see the adapter of the outer blocks only if the shallow graph is fed it.
    inner = Adapter({k: v for k, v in adapter.layers.items() if k not in (bundle().index.shallow_slots or ())})
    assert distance(draw(adapters=[(inner, 1.0)], reuse=10), draw(adapters=[(adapter, 1.0)], reuse=10)) > 0.5


def test_what_was_not_exported_for_it_says_so() -> None:
    with pytest.raises(BundleError, match="export it with --step-reuse"):
        Generator.load(tiny_bundle(), threads=1).generate(PROMPT, steps=2, reuse=2)
    with pytest.raises(ValueError, match="reuse must be at least 1"):
        Generator(bundle(), threads=1).generate(PROMPT, steps=2, reuse=0)
