"""Adapter files: round trips, foreign spellings and scales, hostile content."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load as parse
from safetensors.numpy import save as serialize

from edge_sdk import durable
from edge_sdk.adapter import MAX_RANK, Adapter, Factors, from_bytes, load, save, to_bytes
from edge_sdk.errors import AdapterError, AdapterFormatError, AdapterValueError
from tests.adapter.strategies import adapters

LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
MODULE = LAYER.removeprefix("unet.")
BLOCK = "transformer_blocks.0"
RNG = np.random.default_rng(0)
A = RNG.normal(size=(4, 6)).astype(np.float32)
B = RNG.normal(size=(5, 4)).astype(np.float32)


def plain(**metadata: Any) -> bytes:
    """A file as diffusers writes it, with this `lora_adapter_metadata`."""
    header = {"format": "pt", "lora_adapter_metadata": json.dumps(metadata)}
    return serialize({f"{LAYER}.lora_A.weight": A, f"{LAYER}.lora_B.weight": B}, metadata=header)


def scale_of(data: bytes) -> float:
    factors = from_bytes(data).layers[LAYER]
    np.testing.assert_array_equal(factors.a, A)
    ratio = factors.b / B
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-6)
    return float(ratio[0, 0])


@given(adapters())
def test_round_trip(x: Adapter) -> None:
    single = {name: Factors(f.a.astype(np.float32), f.b.astype(np.float32), f.kernel) for name, f in x.layers.items()}
    original = Adapter(single, base_id="abc", notes={"round": "3", "made.by": "täst"})
    result = from_bytes(to_bytes(original))
    assert (result.base_id, result.notes) == (original.base_id, original.notes)
    assert result.layers.keys() == original.layers.keys()
    for name, factors in original.layers.items():
        np.testing.assert_array_equal(result.layers[name].a, factors.a)
        np.testing.assert_array_equal(result.layers[name].b, factors.b)
        assert result.layers[name].kernel == factors.kernel


def test_equal_adapters_give_equal_bytes_in_every_process() -> None:
    program = (
        "import hashlib, numpy as np; from edge_sdk.adapter import Adapter, Factors, to_bytes\n"
        "f = Factors(np.ones((2, 3), np.float32), np.ones((4, 2), np.float32))\n"
        "names = [f'unet.layer_{i}.to_q' for i in range(9)]\n"
        "x = Adapter({n: f for n in names}, 'base', {str(i): 'x' for i in range(9)})\n"
        "y = Adapter({n: f for n in reversed(names)}, 'base', {str(i): 'x' for i in reversed(range(9))})\n"
        "assert to_bytes(x) == to_bytes(y)\n"
        "print(hashlib.sha256(to_bytes(x)).hexdigest())"
    )
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout for _ in range(2)]
    assert runs[0] == runs[1]


def test_saving_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    good = Adapter({LAYER: Factors(A, B)})
    save(good, path)
    before = path.read_bytes()
    bad = Adapter({LAYER: Factors(A * np.float32(np.nan), B)})
    with pytest.raises(AdapterValueError):
        save(bad, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    np.testing.assert_array_equal(load(path).layers[LAYER].b, B)


def test_what_was_never_an_adapter_file(tmp_path: Path) -> None:
    with pytest.raises(AdapterFormatError, match="Cannot read"):
        load(tmp_path / "absent.safetensors")
    with pytest.raises(AdapterFormatError, match="Cannot read"):
        load(tmp_path)
    (tmp_path / "inside.safetensors").write_bytes(b"")
    with pytest.raises(AdapterFormatError, match=r"it is a folder; give the adapter file in it, such as .*inside"):
        load(tmp_path)
    (tmp_path / "text").write_text("hello, world", "utf-8")
    with pytest.raises(AdapterFormatError, match="text"):
        load(tmp_path / "text")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty: .* fetch it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS, .* `git lfs pull`"),
        (b"\n<!DOCTYPE html><html></html>", "this is a web page, .* use the link of the download"),
        (b"<html>" * 1000, "this is a web page"),
        (b"PK\x03\x04 archive/data.pkl", r"PyTorch's \.bin, .*Convert it"),
        (b"\x80\x02}q\x00.", "this is a pickle, .*Convert it"),
        (b'{"error": "Access to model x is restricted."}', "this is JSON, such as a server's answer"),
        (b"GGUF\x03\0\0\0", "this is a GGUF file"),
        (b"hello, world", r"or cut short\. Is the download complete"),
        (plain()[:-1], r"Is the download complete"),
    ],
)
def test_what_is_no_safetensors_is_called_by_its_name(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    path.write_bytes(content)
    with pytest.raises(AdapterFormatError, match=rf"lora\.safetensors: Not a safetensors file.*{said}"):
        load(path)


def test_numbers_that_make_no_sense_name_their_file(tmp_path: Path) -> None:
    bad = A.copy()
    bad[0, 0] = np.nan
    data = serialize({f"{LAYER}.lora_A.weight": bad, f"{LAYER}.lora_B.weight": B})
    (tmp_path / "second.safetensors").write_bytes(data)
    with pytest.raises(AdapterValueError, match=r"second\.safetensors: Factor A of layer"):
        load(tmp_path / "second.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_says_who_may_read_an_adapter(umask: int, expected: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        save(Adapter({LAYER: Factors(A, B)}), tmp_path / "adapter.safetensors")
        durable.write(tmp_path / "secret", b"", private=True)
    finally:
        os.umask(before)
    assert (tmp_path / "adapter.safetensors").stat().st_mode & 0o777 == expected
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


# --- scales ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, 1.0),
        ({"unet.r": 4, "unet.lora_alpha": 4}, 1.0),
        ({"unet.r": 4, "unet.lora_alpha": 2}, 0.5),
        ({"unet.lora_alpha": 16.0}, 4.0),
        ({"unet.lora_alpha": 8, "unet.use_rslora": True}, 4.0),
        ({"unet.lora_alpha": 4, "unet.alpha_pattern": {MODULE: 12}}, 3.0),
        ({"unet.lora_alpha": 4, "unet.alpha_pattern": {"attn1.to_q": 12}}, 3.0),
        ({"unet.lora_alpha": 4, "unet.alpha_pattern": {"to_q": 1, "attn1.to_q": 12}}, 3.0),
        ({"unet.lora_alpha": 4, "unet.alpha_pattern": {"o_q": 12, "attn2.to_q": 12}}, 1.0),
        ({"text_encoder.lora_alpha": 16}, 1.0),
        ({"unet.lora_alpha": 4, "unet.alpha_pattern": None}, 1.0),
    ],
)
def test_the_scale_in_the_header_is_folded_into_b(metadata: dict[str, Any], expected: float) -> None:
    assert scale_of(plain(**metadata)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "metadata",
    [
        {"unet.lora_alpha": "4"},
        {"unet.lora_alpha": True},
        {"unet.alpha_pattern": [1]},
        {"unet.alpha_pattern": {"(a+)+$": 1}},
        {"unet.use_dora": True},
        # What these take out of the base model's weights is missing from the factors.
        *({"unet.init_lora_weights": kind} for kind in ("pissa", "pissa_niter_4", "olora", "corda", "loftq")),
        {"unet.alora_invocation_tokens": [1, 2]},
    ],
)
def test_headers_that_cannot_be_followed_are_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(AdapterFormatError):
        from_bytes(plain(**metadata))


@pytest.mark.parametrize("kind", [True, False, "gaussian", "orthogonal", "eva", None])
def test_beginnings_that_leave_the_base_model_alone_are_read(kind: object) -> None:
    assert scale_of(plain(**{"unet.lora_alpha": 8, "unet.init_lora_weights": kind})) == 2.0


@pytest.mark.parametrize("alpha", [np.array(2, np.int64), np.array([2], np.int32), np.array(2.0, np.float16)])
def test_an_alpha_may_be_a_whole_number(alpha: Any) -> None:
    """sd-scripts saves alpha in the type that it was given in, unless it is told the file's precision."""
    name = f"lora_unet_{MODULE.replace('.', '_')}"
    assert (
        scale_of(serialize({f"{name}.lora_down.weight": A, f"{name}.lora_up.weight": B, f"{name}.alpha": alpha})) == 0.5
    )


def test_a_scale_that_is_no_number_or_overflows_is_refused() -> None:
    for alpha in (float("nan"), float("inf"), 1e30, 1e300):
        with pytest.raises(AdapterValueError):
            from_bytes(plain(**{"unet.lora_alpha": alpha}))


def test_written_files_state_their_ranks_for_peft() -> None:
    layers = {
        "unet.a.to_q": Factors(A, B),
        "unet.a.to_k": Factors(A, B),
        "unet.b.to_q": Factors(A[:2], B[:, :2]),
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": Factors(A[:1], B[:, :1]),
    }
    data = to_bytes(Adapter(layers))
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    metadata = json.loads(header["__metadata__"]["lora_adapter_metadata"])
    assert (metadata["unet.r"], metadata["unet.lora_alpha"]) == (4, 4)
    assert metadata["unet.rank_pattern"] == metadata["unet.alpha_pattern"] == {"b.to_q": 2}
    assert metadata["unet.target_modules"] == ["a.to_k", "a.to_q", "b.to_q"]
    assert metadata["text_encoder.r"] == 1


# --- foreign spellings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "down", "up", "expected"),
    [
        (LAYER, "lora.down", "lora.up", LAYER),
        (LAYER, "lora_A", "lora_B", LAYER),
        (f"lora_unet_{MODULE.replace('.', '_')}", "lora_down", "lora_up", LAYER),
        (
            "text_encoder.encoder.layers.3.self_attn.q_proj",
            "lora_A",
            "lora_B",
            "text_encoder.text_model.encoder.layers.3.self_attn.q_proj",
        ),
        # Without a component: UNet2DConditionModel.save_lora_adapter, and adapters of one network.
        (MODULE, "lora_A", "lora_B", LAYER),
        (
            "text_model.encoder.layers.3.self_attn.q_proj",
            "lora_A",
            "lora_B",
            "text_encoder.text_model.encoder.layers.3.self_attn.q_proj",
        ),
        # PEFT's live modules name the adapter.
        (LAYER, "lora_A.default", "lora_B.default", LAYER),
        # diffusers before 0.23: attention processors, and CLIP's layers.
        (f"{LAYER.removesuffix('.to_q')}.processor", "to_q_lora.down", "to_q_lora.up", LAYER),
        (f"{MODULE.removesuffix('.to_q')}.processor", "to_out_lora.down", "to_out_lora.up", f"{LAYER[:-1]}out.0"),
        (
            "text_encoder.text_model.encoder.layers.3.self_attn",
            "to_out_lora.down",
            "to_out_lora.up",
            "text_encoder.text_model.encoder.layers.3.self_attn.out_proj",
        ),
        (
            "text_encoder.text_model.encoder.layers.3.mlp.fc1",
            "lora_linear_layer.down",
            "lora_linear_layer.up",
            "text_encoder.text_model.encoder.layers.3.mlp.fc1",
        ),
        ("diffusion_model.input_blocks.4.1.proj_in", "lora_A", "lora_B", "unet.down_blocks.1.attentions.0.proj_in"),
        # ComfyUI's and OneTrainer's names of the text encoders.
        (
            "text_encoders.clip_l.transformer.text_model.encoder.layers.3.mlp.fc1",
            "lora_down",
            "lora_up",
            "text_encoder.text_model.encoder.layers.3.mlp.fc1",
        ),
        (
            "clip_g.text_model.encoder.layers.3.mlp.fc1",
            "lora_down",
            "lora_up",
            "text_encoder_2.text_model.encoder.layers.3.mlp.fc1",
        ),
    ],
)
def test_other_spellings_are_read(prefix: str, down: str, up: str, expected: str) -> None:
    adapter = from_bytes(serialize({f"{prefix}.{down}.weight": A, f"{prefix}.{up}.weight": B}))
    assert list(adapter.layers) == [expected]


@pytest.mark.parametrize(
    "path",
    [
        "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_out.0",
        "unet.up_blocks.3.attentions.2.transformer_blocks.0.ff.net.0.proj",
        "unet.up_blocks.3.attentions.2.transformer_blocks.0.ff.net.2",
        "unet.mid_block.attentions.0.proj_in",
        "unet.mid_block.attentions.0.proj_out",
        "unet.down_blocks.2.resnets.0.time_emb_proj",
        "unet.time_embedding.linear_1",
        "unet.time_embedding.cond_proj",
        "unet.add_embedding.linear_2",
        "unet.conv_in",
        "unet.conv_out",
        "unet.mid_block.resnets.1.conv2",
        "unet.up_blocks.1.resnets.2.conv_shortcut",
        "unet.up_blocks.1.upsamplers.0.conv",
        "unet.down_blocks.0.downsamplers.0.conv",
        "text_encoder.text_model.encoder.layers.11.self_attn.out_proj",
        "text_encoder.text_model.encoder.layers.0.mlp.fc1",
    ],
)
def test_kohya_names(path: str) -> None:
    component, _, module = path.partition(".")
    name = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[component] + module.replace(".", "_")
    tensors = {
        f"{name}.lora_down.weight": A,
        f"{name}.lora_up.weight": B,
        f"{name}.alpha": np.array(2.0, np.float32),
    }
    adapter = from_bytes(serialize(tensors, metadata={"ss_network_dim": "4", "ss_tag_frequency": "private"}))
    assert list(adapter.layers) == [path]
    np.testing.assert_allclose(adapter.layers[path].b, B * 0.5)
    assert adapter.notes == {}  # what strangers wrote about their data is not carried on


@pytest.mark.parametrize(
    ("original", "path"),
    [
        ("input_blocks_0_0", "conv_in"),
        ("input_blocks_1_0_in_layers_2", "down_blocks.0.resnets.0.conv1"),
        ("input_blocks_3_0_op", "down_blocks.0.downsamplers.0.conv"),
        ("input_blocks_5_1_transformer_blocks_0_attn1_to_out_0", f"down_blocks.1.attentions.1.{BLOCK}.attn1.to_out.0"),
        ("middle_block_0_emb_layers_1", "mid_block.resnets.0.time_emb_proj"),
        ("middle_block_1_proj_out", "mid_block.attentions.0.proj_out"),
        ("middle_block_2_out_layers_3", "mid_block.resnets.1.conv2"),
        ("output_blocks_0_0_skip_connection", "up_blocks.0.resnets.0.conv_shortcut"),
        ("output_blocks_2_2_conv", "up_blocks.0.upsamplers.0.conv"),
        ("output_blocks_2_1_conv", "up_blocks.0.upsamplers.0.conv"),
        ("output_blocks_4_1_transformer_blocks_0_ff_net_0_proj", f"up_blocks.1.attentions.1.{BLOCK}.ff.net.0.proj"),
        ("time_embed_2", "time_embedding.linear_2"),
        ("label_emb_0_0", "add_embedding.linear_1"),
        ("out_2", "conv_out"),
    ],
)  # fmt: skip
def test_kohya_names_of_sdxl(original: str, path: str) -> None:
    name = f"lora_unet_{original}"
    assert list(from_bytes(serialize({f"{name}.lora_down.weight": A, f"{name}.lora_up.weight": B})).layers) == [
        f"unet.{path}"
    ]


def test_peft_files_are_read_with_the_configuration_beside_them(tmp_path: Path) -> None:
    """As PeftModel.save_pretrained writes them: the scale is in adapter_config.json."""
    other = f"{MODULE[:-1]}k"
    tensors = {f"base_model.model.{MODULE}.lora_A.weight": A, f"base_model.model.{MODULE}.lora_B.weight": B}
    tensors |= {
        f"base_model.model.{other}.lora_A.weight": A[:2],
        f"base_model.model.{other}.lora_B.weight": B[:, :2].copy(),
    }
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(serialize(tensors))
    with pytest.raises(AdapterFormatError, match=r"whose scale is in adapter_config\.json: put that file beside it"):
        load(path)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "rank_pattern": {"to_k": 2}, "alpha_pattern": {"to_k": 1}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    layers = load(path).layers
    np.testing.assert_allclose(layers[LAYER].b, B * 2)
    np.testing.assert_allclose(layers[f"unet.{other}"].b, B[:, :2] / 2)
    for wrong in ("{", "[]", '{"peft_type": "LOHA"}', '{"use_dora": true}'):
        (tmp_path / "adapter_config.json").write_text(wrong)
        with pytest.raises(AdapterFormatError, match=r"adapter_model\.safetensors: .*plain LoRA|is not JSON"):
            load(path)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (1, 3)])
def test_convolutions_are_four_dimensional(kernel: tuple[int, int]) -> None:
    a = RNG.normal(size=(4, 6, *kernel)).astype(np.float32)
    for b in (B, B[:, :, None, None]):
        data = serialize(
            {f"{LAYER}.lora.down.weight": a, f"{LAYER}.lora.up.weight": b, f"{LAYER}.alpha": np.full(1, 2.0)}
        )
        factors = from_bytes(data).layers[LAYER]
        assert factors.kernel == kernel
        np.testing.assert_array_equal(factors.a, a.reshape(4, -1))
        np.testing.assert_allclose(factors.b, B / 2)
    written = parse(to_bytes(Adapter({LAYER: factors})))
    np.testing.assert_array_equal(written[f"{LAYER}.lora_A.weight"], a)
    assert written[f"{LAYER}.lora_B.weight"].shape == (5, 4, 1, 1)


def test_a_1x1_convolution_may_be_written_as_matrices() -> None:
    factors = from_bytes(serialize({f"{LAYER}.lora_A.weight": A, f"{LAYER}.lora_B.weight": B[:, :, None, None]}))
    assert factors.layers[LAYER].kernel == (1, 1)
    assert (
        from_bytes(serialize({f"{LAYER}.lora_A.weight": A, f"{LAYER}.lora_B.weight": B})).layers[LAYER].kernel is None
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_become_float32(dtype: type) -> None:
    data = serialize({f"{LAYER}.lora_A.weight": A.astype(dtype), f"{LAYER}.lora_B.weight": B.astype(dtype)})
    factors = from_bytes(data).layers[LAYER]
    assert factors.a.dtype == factors.b.dtype == np.float32
    np.testing.assert_allclose(factors.a, A, rtol=1e-3)


def test_bfloat16_becomes_float32() -> None:
    halves = [(matrix.view(np.uint32) >> 16).astype("<u2") for matrix in (A, B)]
    data = serialize({f"{LAYER}.lora_A.weight": halves[0], f"{LAYER}.lora_B.weight": halves[1]})
    length = struct.unpack("<Q", data[:8])[0]
    header = data[8 : 8 + length].replace(b'"U16"', b'"BF16"').rstrip()
    header += b" " * (-len(header) % 8)
    factors = from_bytes(struct.pack("<Q", len(header)) + header + data[8 + length :]).layers[LAYER]
    np.testing.assert_allclose(factors.a, A, rtol=1e-2)
    np.testing.assert_allclose(factors.b, B, rtol=1e-2)


# --- hostile files --------------------------------------------------------------------------------------------------


def file(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


A_KEY, B_KEY = f"{LAYER}.lora_A.weight", f"{LAYER}.lora_B.weight"
HOSTILE = {
    "nothing": b"",
    "only a length": struct.pack("<Q", 2**63),
    "a header longer than the file": struct.pack("<Q", 1000) + b"{}",
    "a header that is no json": file(b"{" * 100),
    "a header that is deeply nested": file(b"[" * 100_000),
    "a header that is a list": file([1, 2]),
    "no tensors": file({}),
    "metadata that is no map": file({"__metadata__": [1]}),
    "metadata that is no text": file({"__metadata__": {"a": 1}}),
    "tensors beyond the end": file({A_KEY: tensor([4, 6], 0, 96), B_KEY: tensor([5, 4], 96, 176)}),
    "a huge shape": file({A_KEY: tensor([2**40, 2**40], 0, 4)}, bytes(4)),
    "overlapping tensors": file({A_KEY: tensor([1, 1], 0, 4), B_KEY: tensor([1, 1], 0, 4)}, bytes(4)),
    "one factor only": serialize({A_KEY: A}),
    "factors that do not fit": serialize({A_KEY: A, B_KEY: B.T.copy()}),
    "integers": serialize({A_KEY: A.astype(np.int32), B_KEY: B.astype(np.int32)}),
    "full weights": serialize({f"{LAYER}.weight": A}),
    "a dora": serialize({A_KEY: A, B_KEY: B, f"{LAYER}.lora_magnitude_vector": A[0]}),
    "a bias": serialize({A_KEY: A, B_KEY: B, f"{LAYER}.lora_B.bias": A[0]}),
    "an alpha that is a matrix": serialize({A_KEY: A, B_KEY: B, f"{LAYER}.alpha": A}),
    "a convolution of three dimensions": serialize(
        {A_KEY: A[:, :, None, None, None], B_KEY: B[:, :, None, None, None]}
    ),
    "a convolution of one dimension": serialize({A_KEY: A[:, :, None], B_KEY: B[:, :, None]}),
    "a scalar": serialize({A_KEY: A, B_KEY: np.array(1, np.float32)}),
    "a B that is no 1x1 convolution": serialize({A_KEY: A, B_KEY: np.ones((5, 4, 3, 3), np.float32)}),
    "a B that is no 1x1 convolution, of an A that is": serialize(
        {A_KEY: np.ones((4, 6, 3, 3)), B_KEY: np.ones((5, 4, 3, 1))}
    ),
    "convolutions that do not fit": serialize({A_KEY: np.ones((3, 6, 3, 3)), B_KEY: B}),
    "a kernel without area": serialize({A_KEY: np.ones((4, 6, 0, 3)), B_KEY: B}),
    "a layer twice": serialize({A_KEY: A, B_KEY: B, f"{LAYER}.lora.down.weight": A, f"{LAYER}.lora.up.weight": B}),
    "a path instead of a layer": serialize({"../../etc/passwd.lora_A.weight": A, "../../etc/passwd.lora_B.weight": B}),
    "a peft file without its configuration": serialize(
        {f"base_model.model.{MODULE}.lora_A.weight": A, f"base_model.model.{MODULE}.lora_B.weight": B}
    ),
    "a layer of no UNet in the original layout": serialize(
        {"lora_unet_input_blocks_4_1.lora_down.weight": A, "lora_unet_input_blocks_4_1.lora_up.weight": B}
    ),
    "a full weight called down": serialize({f"{LAYER}.down.weight": A, f"{LAYER}.up.weight": B}),
    "an absurd rank": serialize({A_KEY: np.ones((MAX_RANK + 1, 6)), B_KEY: np.ones((5, MAX_RANK + 1))}),
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_by_name(name: str) -> None:
    with pytest.raises(AdapterFormatError):
        from_bytes(HOSTILE[name])


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        ("lora_magnitude_vector", "DoRA"),
        ("dora_scale", "DoRA"),
        ("hada_w1_a", "LoHa"),
        ("lokr_w2", "LoKr"),
        ("boft_R", "BOFT"),
        ("oft_blocks", "OFT"),
        ("ia3_l", "IA3"),
        ("on_input", "IA3"),
        ("vera_lambda_b", "VeRA"),
        ("lora_E", "AdaLoRA"),
        ("lora_mid.weight", r"Tucker \(CP\) decomposition"),
    ],
)
def test_other_kinds_of_adapters_are_called_by_their_names(ending: str, kind: str) -> None:
    with pytest.raises(AdapterFormatError, match=f"part of an? {kind}, which is not supported: train a plain LoRA"):
        from_bytes(serialize({A_KEY: A, B_KEY: B, f"{LAYER}.{ending}": A}))


@pytest.mark.parametrize("key", ["emb_params", "bundle_emb.fox.string_to_param.*"])
def test_a_textual_inversion_is_called_by_its_name(key: str) -> None:
    with pytest.raises(AdapterFormatError, match="is a textual inversion's embedding, which is not supported"):
        from_bytes(serialize({key: A}))


def test_a_checkpoint_given_as_an_adapter_is_refused_by_its_beginning(tmp_path: Path) -> None:
    """The gigabytes behind the header are not read; this file does not even have them."""
    path = tmp_path / "v1-5.safetensors"
    content = file({"model.diffusion_model.out.2.weight": tensor([2**14, 2**14], 0, 2**30)})
    with path.open("wb") as checkpoint:
        checkpoint.write(content)
        checkpoint.truncate(len(content) + 2**33)
    with pytest.raises(AdapterFormatError, match=r"v1-5\.safetensors: .* not part of a plain LoRA"):
        load(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e5])
def test_values_that_make_no_sense_are_refused(value: float) -> None:
    bad = A.copy()
    bad[2, 3] = value
    with pytest.raises(AdapterValueError):
        from_bytes(serialize({A_KEY: bad, B_KEY: B}))
    with pytest.raises(AdapterValueError):
        to_bytes(Adapter({LAYER: Factors(bad, B)}))


@given(st.data())
def test_damaged_files_are_refused_or_are_adapters(data: st.DataObject) -> None:
    content = bytearray(to_bytes(Adapter({LAYER: Factors(A, B)}, base_id="x")))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    try:
        adapter = from_bytes(bytes(content[: cut or None]))
    except AdapterError:
        return
    assert adapter.parameters > 0
