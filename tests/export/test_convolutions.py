"""Adapters on convolutions: what is drawn with a file is what diffusers and PEFT compute with the same file.

The base model is like Stable Diffusion 1.5, whose transformers lie between 1x1 convolutions.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
import torch
from safetensors.numpy import save_file

from edge_sdk.adapter import Adapter, Factors, LayerSet, check, load, save
from edge_sdk.errors import AdapterMismatch
from edge_sdk.inference import Bundle, Generator, Slot
from edge_sdk.inference.adapters.mixing import to_feed
from edge_sdk.inference.runtime import prepare
from edge_sdk.inference.runtime.backends import BACKENDS, Settings
from edge_sdk.inference.runtime.sessions import open_session
from edge_sdk.inference.runtime.stages import graph_of
from export import export_model
from export.graphs import add_lora_slots, check_split, fuse_attention, is_lora, save_graph
from export.precision import PROMPTS, compute_in_half, convert
from export.source import Part, load_pipeline, parts_of, slots_of
from tests.export.test_options import LCM_LAYERS
from tests.models import LATENT_SHAPE, WIDTH, Kind, tiny_model
from tests.tracing import trace, traced_once

pytestmark = [
    # diffusers turns tensors into arrays the way of numpy 1.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]
Floats = npt.NDArray[np.float32]
EXACT = 1e-5
RANKS = (4, 1, 7, 2)
BOTH: tuple[LayerSet, ...] = ("transformer", "all")


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="impasto-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def unet_part(kind: Kind) -> Part:
    return next(part for part in parts_of(load_pipeline(tiny_model(kind))) if part.name == "unet")


@functools.cache
def graph(which: LayerSet | None, kind: Kind = "epsilon") -> Path:
    """The UNet's graph with these slots."""
    model = trace(unet_part(kind))
    fuse_attention(model)
    add_lora_slots(model, slots_of(unet_part(kind).network, which) if which else [])
    path = _folder() / "model.onnx"
    save_graph(model, path)
    return path


@functools.cache
def bundle() -> Bundle:
    """With all slots, and for step reuse."""
    with traced_once():
        made = export_model(tiny_model("epsilon"), _folder() / "all", verify=False, slots="all", step_reuse=True)
    return Bundle.load(made.folder)


def slots(which: LayerSet, kind: Kind = "epsilon") -> dict[str, Slot]:
    return {slot.name: slot for slot in slots_of(unet_part(kind).network, which)}


def an_adapter(given: dict[str, Slot], seed: int = 0, leave_out: int = 3, strength: float = 0.3) -> Adapter:
    """Of mixed ranks; every so many layers it has none."""
    rng, layers = np.random.default_rng(seed), {}
    for number, (name, slot) in enumerate(sorted(given.items())):
        if (number + seed) % leave_out:
            rank = RANKS[(number + seed) % len(RANKS)]
            a = rng.standard_normal((rank, slot.in_features), np.float32) / np.float32(slot.in_features**0.5)
            b = rng.standard_normal((slot.out_features, rank), np.float32) * np.float32(strength / rank**0.5)
            layers[name] = Factors(a, b, slot.kernel)
    return Adapter(layers)


def inputs(tokens: int = 77) -> dict[str, Floats]:
    rng = np.random.default_rng(7)
    return {
        "sample": rng.standard_normal((2, *LATENT_SHAPE), np.float32),
        "timestep": np.full(2, 501, np.float32),
        "encoder_hidden_states": rng.standard_normal((2, tokens, WIDTH), np.float32),
    }


def run(path: Path, terms: Sequence[tuple[Adapter, float]], given: dict[str, Slot]) -> Floats:
    session = open_session(path, threads=1)
    result: Floats = session.run(["out_sample"], {**inputs(), **to_feed(terms, given)})[0]
    return result


def by_diffusers(files: Sequence[tuple[Path, float]], kind: Kind = "epsilon") -> Floats:
    """Output of diffusers with these files on top of the base model."""
    pipe = load_pipeline(tiny_model(kind))
    for number, (file, _) in enumerate(files):
        pipe.load_lora_weights(file, adapter_name=str(number))
    if files:
        pipe.set_adapters([str(i) for i in range(len(files))], [weight for _, weight in files])
    with torch.no_grad():
        given = [torch.from_numpy(np.asarray(value)) for value in inputs().values()]
        result: Floats = pipe.unet(*given, return_dict=False)[0].numpy()
    return result


def difference(found: Floats, wanted: Floats) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def saved(adapter: Adapter, path: Path) -> Path:
    save(adapter, path)
    return path


# --- the slots ------------------------------------------------------------------------------------------------------


def test_the_transformer_set_has_the_projections_that_are_convolutions() -> None:
    added = {name: slot for name, slot in slots("transformer").items() if name not in slots("attention")}
    kernels = {name.rpartition(".")[2]: slot.kernel for name, slot in added.items()}
    assert kernels == {"proj_in": (1, 1), "proj_out": (1, 1), "proj": None, "2": None}
    assert {slot.kernel for slot in slots("transformer", "sd2").values()} == {None}


def test_the_whole_set_has_every_layer_of_shared_files() -> None:
    every = slots("all")
    assert slots("transformer").items() <= every.items()
    assert all(any(name.endswith(f".{kind}") for name in every) for kind in LCM_LAYERS)
    assert {"unet.conv_in", "unet.conv_out", "unet.time_embedding.linear_1"} < set(every)
    assert every["unet.conv_in"].shape == (4 * 9, 32, (3, 3))
    weights = unet_part("epsilon").network.state_dict()
    matrices = {f"unet.{name.removesuffix('.weight')}" for name, weight in weights.items() if weight.ndim > 1}
    assert every.keys() == matrices


# --- the same as diffusers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", BOTH)
@pytest.mark.parametrize("leave_out", [3, 1000])
def test_an_adapter_of_mixed_ranks_computes_what_diffusers_computes(
    which: LayerSet, leave_out: int, tmp_path: Path
) -> None:
    file = saved(an_adapter(slots(which), leave_out=leave_out), tmp_path / "adapter.safetensors")
    adapter = load(file)
    check(adapter, {name: slot.shape for name, slot in slots(which).items()}, "any")
    assert {factors.rank for factors in adapter.layers.values()} == set(RANKS)
    wanted = by_diffusers([(file, 1.0)])
    assert difference(run(graph(which), [(adapter, 1.0)], slots(which)), wanted) < EXACT
    assert difference(wanted, by_diffusers([])) > 0.1


# PEFT warns of several adapters in one model.
@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute in the model:UserWarning")
@pytest.mark.parametrize("which", BOTH)
def test_three_adapters_mixed_compute_what_diffusers_computes(which: LayerSet, tmp_path: Path) -> None:
    terms = [(an_adapter(slots(which), seed), weight) for seed, weight in ((1, 0.7), (2, -0.4), (3, 1.1))]
    files = [(saved(adapter, tmp_path / f"{i}.safetensors"), weight) for i, (adapter, weight) in enumerate(terms)]
    assert difference(run(graph(which), terms, slots(which)), by_diffusers(files)) < EXACT


@pytest.mark.parametrize("which", BOTH)
def test_without_an_adapter_nothing_changes(which: LayerSet) -> None:
    plain = run(graph(None), [], {})
    assert difference(run(graph(which), [], slots(which)), plain) < 1e-6
    nothing = {name: np.zeros(shape, np.float32) for name, shape in empty(which)}
    session = open_session(graph(which), threads=1)
    fed = session.run(["out_sample"], {**inputs(), **nothing})[0]
    assert np.array_equal(fed, run(graph(which), [], slots(which)))


def empty(which: LayerSet) -> Iterator[tuple[str, tuple[int, int]]]:
    for slot in slots(which).values():
        yield slot.input_a, (slot.in_features, 0)
        yield slot.input_b, (0, slot.out_features)


@pytest.mark.parametrize("name", ["down_blocks.0.downsamplers.0.conv", "up_blocks.0.upsamplers.0.conv", "conv_out"])
def test_single_layers_compute_what_diffusers_computes(name: str, tmp_path: Path) -> None:
    """The downsampler's convolution has stride 2, the last one's result is the graph's."""
    only = {key: slot for key, slot in slots("all").items() if key == f"unet.{name}"}
    adapter = an_adapter(only, seed=1, leave_out=1000, strength=2.0)
    wanted = by_diffusers([(saved(adapter, tmp_path / "one.safetensors"), 1.0)])
    assert difference(run(graph("all"), [(adapter, 1.0)], slots("all")), wanted) < EXACT
    assert difference(wanted, by_diffusers([])) > 0.05


def test_a_kohya_locon_file_computes_what_it_computes_in_diffusers_own_form(tmp_path: Path) -> None:
    """Not the same file: diffusers 0.39 misses the alpha of attention layers in kohya files with mixed alphas."""
    own = {n: slot for n, slot in slots("all").items() if any(part in n for part in ("resnets", "attentions", "sampl"))}
    original, tensors = an_adapter(own), {}
    for name, factors in original.layers.items():
        key = f"lora_unet_{name.removeprefix('unet.').replace('.', '_')}"
        a, b = factors.a, factors.b * 4
        if factors.kernel:
            a, b = a.reshape(factors.rank, -1, *factors.kernel), b[:, :, None, None]
        tensors |= {f"{key}.lora_down.weight": a, f"{key}.lora_up.weight": b}
        tensors[f"{key}.alpha"] = np.array(factors.rank / 4, np.float32)
    save_file(tensors, tmp_path / "locon.safetensors", metadata={"ss_network_module": "lycoris.kohya"})
    adapter = load(tmp_path / "locon.safetensors")
    assert {factors.kernel for factors in adapter.layers.values()} == {None, (1, 1), (3, 3)}
    wanted = by_diffusers([(saved(original, tmp_path / "peft.safetensors"), 1.0)])
    assert difference(run(graph("all"), [(adapter, 1.0)], slots("all")), wanted) < EXACT


def test_projections_written_the_other_way_compute_the_same(tmp_path: Path) -> None:
    """A 1x1 convolution as a matrix on a model with convolutions, and as a convolution on one with linear layers."""
    for kind, kernel in (("epsilon", (1, 1)), ("sd2", None)):
        given = {name: slot for name, slot in slots("transformer", kind).items() if ".proj_" in name}
        right = an_adapter(given, leave_out=1000)
        assert {factors.kernel for factors in right.layers.values()} == {kernel}
        other = Adapter(
            {name: Factors(f.a, f.b, None if f.kernel else (1, 1)) for name, f in right.layers.items()},
        )
        save(other, tmp_path / "other.safetensors")
        other = load(tmp_path / "other.safetensors")
        check(other, {name: slot.shape for name, slot in given.items()}, "any")
        found = to_feed([(other, 1.0), (right, -0.5)], given)
        wanted = to_feed([(right, 1.0), (right, -0.5)], given)
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_other_kernels_than_the_layers_are_refused() -> None:
    generator = Generator(bundle(), threads=1)
    factors = Factors(np.ones((1, 36), np.float32), np.ones((32, 1), np.float32), (2, 2))
    with pytest.raises(AdapterMismatch, match=r"32x36 \(kernel 2x2\) in the adapter and 32x36 \(kernel 3x3\)"):
        generator.add_adapter("x", Adapter({"unet.conv_in": factors}))


# --- what devices do with it ----------------------------------------------------------------------------------------


def test_drawing_with_it_and_step_reuse(tmp_path: Path) -> None:
    index = bundle().index
    adapter = an_adapter(slots("all"))
    with Generator(bundle(), threads=1) as generator:
        generator.add_adapter("locon", saved(adapter, tmp_path / "locon.safetensors"))
        plain, drawn, reused = (
            np.asarray(generator.generate("a fox", seed=1, steps=4, **options)[0], np.float32)  # type: ignore[arg-type]
            for options in ({}, {"adapters": {"locon": 1.0}}, {"adapters": {"locon": 1.0}, "reuse": 2})
        )
    assert np.abs(plain - drawn).mean() > 2
    assert 0 < np.abs(reused - drawn).mean() < np.abs(plain - drawn).mean()
    shallow = set(index.shallow_slots or ())
    assert {"unet.conv_in", "unet.conv_out", "unet.time_embedding.linear_1"} < shallow
    # What the upsampler adds belongs to the deep part, with its adapter.
    assert "unet.up_blocks.0.upsamplers.0.conv" not in shallow
    assert not any(name.startswith("unet.mid_block") for name in shallow)
    assert check_split(bundle().path("unet"), index.latent_shape()) < EXACT


@pytest.mark.parametrize("with_adapter", [False, True])
def test_every_way_of_opening_the_graph_computes_the_same(
    with_adapter: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "SMALL", 0)
    given = {slot.name: slot for slot in bundle().index.slots}
    feed = inputs() | (to_feed([(an_adapter(given), 1.0)], given) if with_adapter else {})
    graph, found = graph_of(bundle(), "unet"), {}
    for name, backend, settings in (
        ("cpu", "cpu", Settings(threads=1)),
        ("prepared", "cpu", Settings(threads=1, cache=tmp_path)),
        ("lean", "cpu", Settings(threads=1, lean=True)),
        ("openvino", "openvino", Settings(threads=1, precision="f32")),
    ):
        session = BACKENDS[backend].open(graph, settings)
        # Another rank first: shapes of one run must not stay for the next.
        session.run(["out_sample"], inputs() | to_feed([(an_adapter(given, 1), 1.0)], given))
        found[name] = session.run(["out_sample"], feed)[0]
    assert any((tmp_path / "prepared").iterdir())
    assert np.array_equal(found["prepared"], found["cpu"])
    for name, result in found.items():
        assert difference(result, found["cpu"]) < EXACT, name


def test_half_precision_keeps_the_adapters_effect(tmp_path: Path) -> None:
    model = ir.load(bundle().path("unet/model.onnx"))
    compute_in_half(model)
    ir.save(model, tmp_path / "model.onnx")
    given = {slot.name: slot for slot in bundle().index.slots}
    for terms in ([], [(an_adapter(given), 1.0)]):
        exact, half = (run(path, terms, given) for path in (bundle().path("unet/model.onnx"), tmp_path / "model.onnx"))
        assert 1e-6 < difference(half, exact) < 5e-3


def test_eight_bits_keep_the_adapters_effect() -> None:
    folder = shutil.copytree(bundle().folder, _folder() / "int8")
    convert(folder, "int8", PROMPTS[:4])
    quantized, exact = folder / "unet" / "model.onnx", bundle().path("unet/model.onnx")
    for node in ir.load(quantized).graph:
        if is_lora(node.name or "") and node.op_type in ("Conv", "MatMul"):
            for value in node.inputs:
                producer = None if value is None else value.producer()
                assert producer is None or producer.op_type != "DequantizeLinear", node.name
    given = {slot.name: slot for slot in bundle().index.slots}
    adapter = an_adapter(given)
    plain, adapted, int8_plain, int8_adapted = (
        run(path, terms, given) for path, terms in itertools.product((exact, quantized), ([], [(adapter, 1.0)]))
    )
    effect, int8_effect = adapted - plain, int8_adapted - int8_plain
    assert np.sqrt((effect**2).mean() / (plain**2).mean()) > 0.15
    assert abs(float((effect * int8_effect).sum() / (effect * effect).sum()) - 1) < 0.1


def test_bundles_without_kernels_in_their_index_still_load() -> None:
    old = msgspec.json.decode(b'{"name": "unet.a.to_q", "in_features": 3, "out_features": 2}', type=Slot)
    assert old.kernel is None
    assert old.shape == (3, 2, None)
