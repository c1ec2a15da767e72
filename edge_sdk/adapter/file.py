"""Adapters as safetensors files that diffusers and PEFT load.

Written: keys "<layer>.lora_A.weight" and "<layer>.lora_B.weight" in float32 with the scale folded into B, matrices for
linear layers and four-dimensional for convolutions, and the header `lora_adapter_metadata` that says alpha = r, so that
readers with and without support for the header agree.
Read: the same, any other scale in the header, diffusers' older keys, PEFT's keys with its adapter_config.json, and
kohya files. This is the one reader for drawing, training and fusing into a bundle. docs/adapters.md specifies the
format.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save as _serialize

from edge_sdk import durable, mistaken
from edge_sdk.adapter import kohya
from edge_sdk.adapter.model import MAX_LAYERS, Adapter, Array, Factors, Kernel, check_values
from edge_sdk.errors import AdapterFormatError

BASE_ID_KEY = "impasto.base_id"
NOTE_PREFIX = "impasto.note."
LORA_METADATA_KEY = "lora_adapter_metadata"

_MAX_HEADER = 8 << 20
_MAX_KEY = 600  # characters of a tensor's name
_FACTORS = {"A": "a", "B": "b", "down": "a", "up": "b"}
# A tensor's key: layer, spelling of the factor, and in PEFT's live modules the adapter's name. Before
# 0.23, diffusers' attention processors had factors of their own.
_KEY = re.compile(
    r"(?P<layer>.+?)(?:\.processor)?"
    r"(?:\.(?P<projection>to_q|to_k|to_v|to_out)_lora\.|\.lora\.|\.lora_linear_layer\.|\.lora_)"
    r"(?P<factor>A|B|down|up)(?:\.[A-Za-z0-9_-]{1,64})?\.weight"
)
_ALPHA = ".alpha"
_TEXT_PROJECTIONS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
_PEFT = "base_model.model."
_PEFT_CONFIG = "adapter_config.json"
# First parts of paths that name no component: those of a UNet, and of CLIP's text encoder.
_UNET = ("down_blocks", "mid_block", "up_blocks", "conv_in", "conv_out", "time_embedding", "add_embedding")
_TEXT = ("text_model", "encoder", "text_projection")
# ComfyUI's and OneTrainer's names of the text encoders.
_CLIP = re.compile(r"(?:text_encoders\.)?clip_([lg])\.(?:transformer\.)?")
_CLIPS = {"l": "text_encoder", "g": "text_encoder_2"}
# Names of other methods' tensors, in peft and LyCORIS.
_OTHER_KINDS = {
    "lora_mid": "part of a Tucker (CP) decomposition",
    "lora_magnitude_vector": "part of a DoRA",
    "dora_scale": "part of a DoRA",
    "hada_": "part of a LoHa",
    "lokr_": "part of a LoKr",
    "boft_": "part of a BOFT",
    "oft_": "part of an OFT",
    "ia3_": "part of an IA3",
    ".on_input": "part of an IA3",
    "vera_": "part of a VeRA",
    "lora_E": "part of an AdaLoRA",
    "emb_params": "a textual inversion's embedding",
    "string_to_param": "a textual inversion's embedding",
}
# PEFT's initialisations that take something out of the base model's weights; the factors fit only the weights left.
_CHANGED_BASES = ("pissa", "olora", "corda", "loftq")
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
# Accepted for alphas only: sd-scripts saves an alpha stated as a whole number like this, unless it converts the file.
_INTEGERS: dict[str, np.dtype[Any]] = {"I64": np.dtype("<i8"), "I32": np.dtype("<i4")}
_REGEX_CHARACTERS = frozenset("*+?()[]{}|^$\\")


def load(path: Path | str) -> Adapter:
    """Read an adapter file.

    Raises:
        AdapterFormatError: no such file, or not a LoRA safetensors file.
        AdapterValueError: NaN, infinite or huge numbers.
        Both name the file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = _whole(file)
        config = path.with_name(_PEFT_CONFIG)
        beside = config.read_bytes() if config.is_file() else None
    except IsADirectoryError as error:
        inside = sorted(file.name for file in path.glob("*.safetensors"))
        raise AdapterFormatError(
            f"Cannot read the adapter file {path}: it is a folder; give the adapter file in it"
            + (f", such as {path / inside[0]}." if inside else " (there is no safetensors file in it).")
        ) from error
    except OSError as error:
        raise AdapterFormatError(f"Cannot read the adapter file {path}: {error.strerror}.") from error
    except AdapterFormatError as error:
        raise AdapterFormatError(f"{path}: {error}") from error
    try:
        return _read(data, str(path), beside)
    except AdapterFormatError as error:
        raise AdapterFormatError(f"{path}: {error}") from error


def _whole(file: BinaryIO) -> bytes:
    """The content of a file. A file that is no adapter, such as a model of gigabytes, is refused by its header."""
    beginning = file.read(8 + _MAX_HEADER)
    for key in _header(beginning)[0]:
        if key != "__metadata__":
            _parse_key(key)
    return beginning + file.read()


def save(adapter: Adapter, path: Path | str, *, private: bool = False) -> None:
    """Write an adapter file; it appears whole or not at all, and is synced to disk.

    private: readable by its owner only; otherwise the process's umask decides, as for any file.

    Raises:
        AdapterValueError: NaN, infinite or huge numbers; nothing is written.
    """
    durable.write(Path(path), to_bytes(adapter), private=private)


def to_bytes(adapter: Adapter) -> bytes:
    """The content of the adapter's file. Equal adapters give equal bytes, so the hash names the content.

    Raises:
        AdapterValueError: NaN, infinite or huge numbers.
    """
    check_values(adapter)
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, factors in adapter.layers.items():
        a, b = factors.a, factors.b
        if factors.kernel is not None:
            a, b = a.reshape(factors.rank, -1, *factors.kernel), b[:, :, None, None]
        tensors[f"{name}.lora_A.weight"] = np.ascontiguousarray(a, dtype=np.float32)
        tensors[f"{name}.lora_B.weight"] = np.ascontiguousarray(b, dtype=np.float32)
    metadata = {"format": "pt", LORA_METADATA_KEY: json.dumps(_lora_metadata(adapter), sort_keys=True)}
    if adapter.base_id is not None:
        metadata[BASE_ID_KEY] = adapter.base_id
    metadata.update({f"{NOTE_PREFIX}{key}": value for key, value in adapter.notes.items()})
    return _sort_metadata(_serialize(tensors, metadata=metadata))


def from_bytes(data: bytes) -> Adapter:
    """Read an adapter from the content of a file.

    Raises:
        AdapterFormatError: not safetensors, not LoRA, factors that do not pair up, or a variant that is not a plain
            LoRA (DoRA, biases, Tucker decompositions).
        AdapterValueError: NaN, infinite or huge numbers.
    """
    return _read(data, None, None)


def _read(data: bytes, source: str | None, beside: bytes | None) -> Adapter:
    """The adapter in a file's content. beside: PEFT's adapter_config.json, which holds the scale of its files."""
    metadata = _metadata(data)
    parts: dict[str, dict[str, Array]] = {}
    tensors = _tensors(data)
    for key, view in tensors:
        layer, part = _parse_key(key)
        if part in parts.setdefault(layer, {}):
            raise AdapterFormatError(f"Layer {layer} is in the file twice, under two spellings.")
        parts[layer][part] = _array(key, view, _DTYPES | _INTEGERS if part == "alpha" else _DTYPES)

    config = _lora_config(metadata)
    if not config and any(key.startswith(_PEFT) for key, _ in tensors):
        config = _peft_config(beside)
    scales = {component: _scales(component, config) for component in {layer.partition(".")[0] for layer in parts}}
    layers: dict[str, Factors] = {}
    for layer, found in sorted(parts.items()):
        if "a" not in found or "b" not in found:
            raise AdapterFormatError(f"Layer {layer} lacks one of its two factors.")
        factors = _factors(layer, found["a"], found["b"])
        if "alpha" in found:
            scale = _single(layer, found["alpha"]) / factors.rank
        else:
            scale = scales[layer.partition(".")[0]].of(layer, factors.rank)
        if scale != 1.0:
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
                factors = Factors(factors.a, (factors.b * np.float64(scale)).astype(np.float32), factors.kernel)
        layers[layer] = factors
    notes = {key[len(NOTE_PREFIX) :]: value for key, value in metadata.items() if key.startswith(NOTE_PREFIX)}
    adapter = Adapter(layers, metadata.get(BASE_ID_KEY), notes, source)
    check_values(adapter)
    return adapter


def matrices_to_bytes(matrices: Mapping[str, Array], base_id: str | None) -> bytes:
    """The content of a safetensors file of float32 matrices, such as a part of an adapter; equal for equal content."""
    tensors = {key: np.ascontiguousarray(matrix, dtype=np.float32) for key, matrix in matrices.items()}
    metadata = {"format": "pt"} | ({} if base_id is None else {BASE_ID_KEY: base_id})
    return _sort_metadata(_serialize(tensors, metadata=metadata))


def matrices_from_bytes(data: bytes) -> tuple[dict[str, Array], str | None]:
    """The matrices of such a file by key, and the base id; None for the id if the file has none.

    Raises:
        AdapterFormatError: not safetensors, or a tensor that is no matrix of numbers.
    """
    metadata = _metadata(data)
    matrices = {key: _array(key, view) for key, view in _tensors(data)}
    for key, matrix in matrices.items():
        if matrix.ndim != 2:
            raise AdapterFormatError(f"Tensor {key[:200]!r} has shape {matrix.shape}: it must be a matrix.")
    return matrices, metadata.get(BASE_ID_KEY)


# --- names ----------------------------------------------------------------------------------------------------------


def _parse_key(key: str) -> tuple[str, str]:
    """The layer, and the part of it ("a", "b" or "alpha"), that a tensor's key names."""
    if len(key) > _MAX_KEY:
        raise AdapterFormatError(f"The name of a tensor has {len(key)} characters: {key[:200]!r}…")
    if key.endswith(_ALPHA):
        return _canonical(key[: -len(_ALPHA)]), "alpha"
    if found := _KEY.fullmatch(key):
        layer, projection = found["layer"], found["projection"]
        if projection and layer.endswith("self_attn"):
            layer += f".{_TEXT_PROJECTIONS[projection]}"
        elif projection:
            layer += ".to_out.0" if projection == "to_out" else f".{projection}"
        return _canonical(layer), _FACTORS[found["factor"]]
    kind = next((kind for mark, kind in _OTHER_KINDS.items() if mark in key), None)
    raise AdapterFormatError(
        f"Tensor {key[:200]!r} is {kind}, which is not supported: train a plain LoRA."
        if kind
        else f"Tensor {key[:200]!r} is not part of a plain LoRA. Expected keys such as "
        "'unet.….to_q.lora_A.weight'; biases and full weights are not supported."
    )


def _canonical(name: str) -> str:
    if kohya.is_kohya(name):
        return _canonical(kohya.layer_path(name))
    name = name.removeprefix(_PEFT)
    component, _, rest = name.partition(".")
    if found := _CLIP.match(name):
        return _canonical(f"{_CLIPS[found[1]]}.{name[found.end() :]}")
    if component == "diffusion_model":  # the UNet of the original checkpoints, or diffusers' under that name
        return _canonical(f"lora_unet_{rest.replace('.', '_')}")
    if component in _UNET:
        return f"unet.{name}"
    if component in _TEXT:
        return _canonical(f"text_encoder.{name}")
    # transformers 5.6 dropped "text_model." from its module paths; all other software keeps it.
    if component.startswith("text_encoder") and rest.startswith("encoder."):
        return f"{component}.text_model.{rest}"
    return name


# --- tensors ---------------------------------------------------------------------------------------------------------


def _tensors(data: bytes) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        tensors: list[tuple[str, Mapping[str, Any]]] = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except (safetensors.SafetensorError, ValueError, MemoryError) as error:
        raise AdapterFormatError(_not_safetensors(data, f" ({str(error)[:500]})")) from error
    if len(tensors) > 3 * MAX_LAYERS:
        raise AdapterFormatError(f"{len(tensors)} tensors are too many for an adapter of at most {MAX_LAYERS} layers.")
    return tensors


# --- numbers --------------------------------------------------------------------------------------------------------


def _factors(layer: str, a: Array, b: Array) -> Factors:
    """The factors in a file: two matrices, or A (r, channels, height, width) and B (out, r, 1, 1) of a convolution.

    Some tools write 1x1 kernels as matrices.
    """
    if a.ndim not in (2, 4) or b.ndim not in (2, 4) or b.shape[2:] not in ((), (1, 1)):
        raise AdapterFormatError(
            f"Layer {layer} has factors of shapes {a.shape} and {b.shape}: only linear layers and two-dimensional "
            "convolutions are supported, with B a matrix or a 1x1 convolution."
        )
    kernel: Kernel | None = None
    if 4 in (a.ndim, b.ndim):
        kernel = (int(a.shape[2]), int(a.shape[3])) if a.ndim == 4 else (1, 1)
    if not a.size or not b.size:
        raise AdapterFormatError(f"A factor of layer {layer} is empty.")
    return Factors(a.reshape(len(a), -1), b.reshape(len(b), -1), kernel)


def _array(key: str, view: Mapping[str, Any], dtypes: Mapping[str, np.dtype[Any]] = _DTYPES) -> Array:
    dtype = dtypes.get(view["dtype"])
    if dtype is None:
        raise AdapterFormatError(f"Tensor {key[:200]!r} is {view['dtype']}; use float32, float16 or bfloat16.")
    try:
        raw: NDArray[Any] = np.frombuffer(view["data"], dtype).reshape(view["shape"])
    except ValueError as error:  # more dimensions, or larger ones beside one of zero, than NumPy knows
        raise AdapterFormatError(f"Tensor {key[:200]!r} has a shape that no factor has: {str(error)[:200]}.") from error
    if view["dtype"] == "F32":
        return np.asarray(raw, dtype=np.float32)
    if view["dtype"] == "BF16":  # the upper half of a float32
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf and is refused
        return np.asarray(raw, dtype=np.float32)


def _single(layer: str, alpha: Array) -> float:
    if alpha.size != 1:
        raise AdapterFormatError(f"The alpha of layer {layer} is not a single number.")
    return float(alpha.reshape(()))


@dataclass(frozen=True)
class _Scales:
    """The header's alphas for the layers of one component."""

    alpha: object = None
    patterns: Mapping[str, object] = field(default_factory=dict)
    rank_stabilised: bool = False

    def of(self, layer: str, rank: int) -> float:
        """alpha / rank, or alpha / sqrt(rank) for a rank-stabilised LoRA."""
        alpha = self.alpha
        if self.patterns:
            alpha = next((self.patterns[path] for path in _suffixes(layer) if path in self.patterns), alpha)
        if alpha is None:
            return 1.0
        if not isinstance(alpha, (int, float)) or isinstance(alpha, bool):
            raise AdapterFormatError(f"The alpha of layer {layer} in {LORA_METADATA_KEY} is not a number.")
        try:
            return float(alpha) / (math.sqrt(rank) if self.rank_stabilised else rank)
        except OverflowError as error:  # JSON's integers have no bounds
            raise AdapterFormatError(f"The alpha of layer {layer} in {LORA_METADATA_KEY} is absurdly large.") from error


def _scales(component: str, config: Mapping[str, Any]) -> _Scales:
    def stated(what: str) -> Any:
        """The value for the component, or the one without a component in files that hold a single one."""
        return config.get(f"{component}.{what}", config.get(what))

    if stated("use_dora"):
        raise AdapterFormatError("DoRA adapters are not supported: train a plain LoRA.")
    beginning = str(stated("init_lora_weights")).lower()
    if beginning.startswith(_CHANGED_BASES):
        raise AdapterFormatError(
            f"Its training began with init_lora_weights={beginning!r}, which changes the base model's own weights, and "
            "the factors fit only those. Save it as a plain LoRA: PeftModel.save_pretrained(..., "
            "path_initial_model_for_weight_conversion=...)."
        )
    if stated("alora_invocation_tokens"):
        raise AdapterFormatError("Activated LoRA (aLoRA) is not supported: train a plain LoRA.")
    patterns = stated("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise AdapterFormatError(f"alpha_pattern in {LORA_METADATA_KEY} is not a map.")
    for pattern in patterns:
        # PEFT reads these as regular expressions; diffusers writes plain module names. No expression is run here.
        if _REGEX_CHARACTERS & set(pattern):
            raise AdapterFormatError(f"alpha_pattern {pattern[:100]!r} is a regular expression; use module names.")
    return _Scales(stated("lora_alpha"), patterns, bool(stated("use_rslora")))


def _suffixes(layer: str) -> Iterator[str]:
    """The module paths by which a header may name a layer, the longest first."""
    path = layer
    while "." in path:
        path = path.partition(".")[2]
        yield path


# --- header ---------------------------------------------------------------------------------------------------------


def _lora_metadata(adapter: Adapter) -> dict[str, Any]:
    """The header that diffusers hands to peft.LoraConfig: one flat map, keys prefixed by the component."""
    ranks: dict[str, dict[str, int]] = {}
    for name, factors in adapter.layers.items():
        component, _, module = name.partition(".")
        ranks.setdefault(component, {})[module] = factors.rank
    metadata: dict[str, Any] = {}
    for component, modules in ranks.items():
        usual = _most_common(modules.values())
        others = {module: rank for module, rank in sorted(modules.items()) if rank != usual}
        metadata[f"{component}.r"] = usual
        metadata[f"{component}.lora_alpha"] = usual
        metadata[f"{component}.rank_pattern"] = others
        metadata[f"{component}.alpha_pattern"] = others
        metadata[f"{component}.target_modules"] = sorted(modules)
    return metadata


def _most_common(ranks: Iterable[int]) -> int:
    counts = Counter(ranks)
    return max(counts, key=lambda rank: (counts[rank], -rank))


def _metadata(data: bytes) -> dict[str, str]:
    header = _header(data)[0]
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise AdapterFormatError("The metadata of the safetensors header is not a map of strings.")
    return metadata


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    """The JSON header of a safetensors file, and the offset in bytes at which its tensors begin."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_MAX_HEADER, len(data) - 8):
        raise AdapterFormatError(_not_safetensors(data, ", or cut short"))
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise AdapterFormatError(_not_safetensors(data, ": its header is not JSON")) from error
    if not isinstance(header, dict):
        raise AdapterFormatError("The header of the safetensors file is not a JSON map.")
    return header, 8 + length


def _not_safetensors(data: bytes, otherwise: str) -> str:
    explained = mistaken.explain(data)
    return (
        f"Not a safetensors file: {explained}."
        if explained
        else f"Not a safetensors file{otherwise}. Is the download complete?"
    )


def _sort_metadata(data: bytes) -> bytes:
    """Put the metadata in order: safetensors writes it in the order of a randomised hash map."""
    header, start = _header(data)
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns tensors to 8 bytes
    return len(text).to_bytes(8, "little") + text + data[start:]


def _lora_config(metadata: Mapping[str, str]) -> dict[str, Any]:
    text = metadata.get(LORA_METADATA_KEY)
    if text is None:
        return {}
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AdapterFormatError(f"The header {LORA_METADATA_KEY} is not JSON.") from error
    if not isinstance(config, dict):
        raise AdapterFormatError(f"The header {LORA_METADATA_KEY} is not a JSON map.")
    return config


def _peft_config(content: bytes | None) -> dict[str, Any]:
    """PEFT's adapter_config.json.

    Raises:
        AdapterFormatError: the file is missing, is no JSON, or is of another method than LoRA.
    """
    if content is None:
        raise AdapterFormatError(
            f"This is a file of PeftModel.save_pretrained, whose scale is in {_PEFT_CONFIG}: put that file beside it, "
            "or write the adapter with StableDiffusionPipeline.save_lora_weights."
        )
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AdapterFormatError(f"The {_PEFT_CONFIG} beside it is not JSON: copy it again.") from error
    if not isinstance(config, dict) or not isinstance(kind := config.get("peft_type", "LORA"), str) or kind != "LORA":
        raise AdapterFormatError(f"The {_PEFT_CONFIG} beside it is of no LoRA: train a plain LoRA.")
    return config
