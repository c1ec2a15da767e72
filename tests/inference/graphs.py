"""Small ONNX graphs and bundles of them, made in milliseconds: what runs them must not care what they compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_sdk.inference import Bundle, BundleIndex
from edge_sdk.inference.bundle.graph import Graph
from edge_sdk.inference.bundle.index import hash_files, write_index

STAGES = ("text_encoder", "unet", "vae_decoder")


def write_chain(folder: Path, *, side: int = 256, layers: int = 4, seed: int = 0, external: bool = True) -> Graph:
    """x -> y: matrix products with `layers` weights of side x side, and one LoRA slot with a default of rank 0."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    weights = [rng.standard_normal((side, side), np.float32) / side**0.5 for _ in range(layers)]
    constants = [numpy_helper.from_array(weight, f"w{number}") for number, weight in enumerate(weights)]
    empty = {"unet.a.lora_A.weight": (side, 0), "unet.a.lora_B.weight": (0, side)}
    constants += [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in empty.items()]
    nodes = [helper.make_node("MatMul", [f"x{n}" if n else "x", f"w{n}"], [f"x{n + 1}"]) for n in range(layers)]
    nodes += [
        helper.make_node("MatMul", ["x", "unet.a.lora_A.weight"], ["down"]),
        helper.make_node("MatMul", ["down", "unet.a.lora_B.weight"], ["up"]),
        helper.make_node("Add", [f"x{layers}", "up"], ["y"]),
    ]
    shapes = {"x": ("n", side), "unet.a.lora_A.weight": (side, "r"), "unet.a.lora_B.weight": ("r", side)}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", side))]
    graph = helper.make_graph(nodes, "chain", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(
        model, folder / "model.onnx", save_as_external_data=external, location="model.onnx_data", size_threshold=1024
    )
    return Graph(folder / "model.onnx", hash_files(folder))


def write_bundle(folder: Path, side: int = 256) -> Bundle:
    """The stages that every drawing runs and the one that is left, each a chain of its own."""
    for seed, stage in enumerate((*STAGES, "vae_encoder")):
        write_chain(folder / stage, side=side, seed=seed)
    index = BundleIndex(
        base_id="0" * 64,
        image_size=32,
        size_step=8,
        vae_scale_factor=4,
        latent_channels=4,
        vae_scaling_factor=0.3,
        slots=[],
        files=hash_files(folder),
    )
    write_index(folder, index)
    return Bundle(folder, index)


def ones(side: int = 256, rows: int = 1) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Input of a chain."""
    return {"x": np.ones((rows, side), np.float32)}
