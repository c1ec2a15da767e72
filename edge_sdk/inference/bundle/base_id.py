"""The identity of a base model: a hash of its weights, the same on every machine and for every way of storing them.

Two folders have the same id exactly if their text encoder, UNet and autoencoder hold the same numbers: float16,
bfloat16 and float32 copies of the same values agree, and so do single and sharded files. Rounding to float16 makes
another base model. No torch is needed, so that devices, exports and coordinators all use this one function.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors

from edge_sdk import mistaken
from edge_sdk.errors import BundleCorrupt, BundleMissing

COMPONENTS = ("text_encoder", "unet", "vae")
# Before diffusers 0.18, the autoencoder's attention had other names for the same weights, as official checkpoints still
# have. diffusers renames them when it loads them.
_OLD_ATTENTION = re.compile(r"(attentions\.\d+\.)(query|key|value|proj_attn)(\.(?:weight|bias))")
_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_FLOATS = {"F16", "F32", "F64", "BF16"}
# Names of the files that transformers and diffusers load. Others, such as an adapter that was put beside them, are no
# weights of the base model. The variant stands before or, in older folders, after the number of the shard.
_WEIGHTS = re.compile(
    r"(?:model|diffusion_pytorch_model)(?:\.(?P<variant>\w+))?(?:-(?P<shard>\d+)-of-(?P<shards>\d+))?"
    r"(?:\.(?P<older>\w+))?\.safetensors"
)
_Read = Callable[[], npt.NDArray[np.float32]]


class _Place(NamedTuple):
    """A tensor in its file; `offset` in bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


def compute_base_id(model: Path | str) -> str:
    """SHA-256 in hex over the weights of a diffusers folder.

    The hash covers every tensor, sorted by name: "<component>.<tensor>" and a zero byte, its shape as "320x4x3x3" and a
    zero byte, then its values as little-endian float32. Integer buffers (old text encoders store their position ids)
    are no weights. A leading "text_model." is dropped, because transformers dropped it from its names in version 5.6,
    and the autoencoder's attention gets its present names.

    Raises:
        BundleMissing: the folder lacks safetensors of one of the three components, or some of its shards, or holds them
            twice.
        BundleCorrupt: a safetensors file cannot be read.
    """
    digest = hashlib.sha256()
    tensors = {name: item for part in COMPONENTS for name, item in _component(Path(model), part)}
    for name in sorted(tensors):
        shape, read = tensors[name]
        digest.update(f"{name}\0{'x'.join(map(str, shape))}\0".encode())
        digest.update(np.ascontiguousarray(read(), dtype="<f4").data)
    return digest.hexdigest()


def _component(model: Path, component: str) -> Iterator[tuple[str, tuple[tuple[int, ...], _Read]]]:
    """Yield (name, (shape, reader of its values)) for every weight of one component."""
    for file in weight_files(model, component):
        tensors = _open(file)
        places = _places(file)
        for key in tensors.keys():  # noqa: SIM118 (it is no mapping)
            piece = tensors.get_slice(key)
            if piece.get_dtype() in _FLOATS:
                name = f"{component}.{_todays(component, key)}"
                yield name, (tuple(piece.get_shape()), _reader(file, tensors, key, places[key]))


def weight_variant(model: Path | str, component: str) -> str | None:
    """The variant of a component's weights that the id covers, such as "fp16"; None if some have no variant.

    Ask diffusers and transformers for this variant, so that they load the weights that the id stands for.

    Raises:
        BundleMissing: there are no safetensors, some shards are missing, or there are several variants.
        BundleCorrupt: one of the files is no safetensors file.
    """
    files = weight_files(Path(model), component)
    for file in files:
        if explained := mistaken.explain_file(file):
            raise BundleCorrupt(f"{file} is no safetensors file: {explained}.")
    return _variant(files[0])


def _variant(file: Path) -> str | None:
    """The "fp16" of "model.fp16.safetensors" and of "model.fp16-00001-of-00002.safetensors"."""
    found = _WEIGHTS.fullmatch(file.name)
    return (found["variant"] or found["older"]) if found else None


def _todays(component: str, key: str) -> str:
    if component == "vae":
        return _OLD_ATTENTION.sub(lambda found: f"{found[1]}{_ATTENTION[found[2]]}{found[3]}", key)
    return key.removeprefix("text_model.")


def _open(file: Path) -> Any:
    try:
        return safetensors.safe_open(file, "np")
    except (safetensors.SafetensorError, OSError) as error:
        why = mistaken.explain_file(file)
        raise BundleCorrupt(
            f"{file} is no safetensors file" + (f": {why}." if why else f" ({error}): fetch the base model again.")
        ) from error


def weight_files(model: Path, component: str) -> list[Path]:
    """The weight files that the id covers: those without a variant such as .fp16, or else those of the only variant.

    Raises:
        BundleMissing: there are no safetensors, some shards are missing, or there are several variants.
    """
    files = sorted(file for file in (model / component).glob("*.safetensors") if _WEIGHTS.fullmatch(file.name))
    # "model.safetensors" and "model-00001-of-00002.safetensors" have no variant, "model.fp16.safetensors" has.
    plain = [file for file in files if _variant(file) is None]
    if plain:
        return _complete(model, component, plain)
    variants = sorted({str(_variant(file)) for file in files})
    if len(variants) == 1:
        return _complete(model, component, files)
    if variants:
        raise BundleMissing(
            f"{model} is no base model: {component}/ holds weights of the variants {' and '.join(variants)}, and none "
            "without a variant. Keep those of one."
        )
    if pickled := sorted((model / component).glob("*.bin")):
        raise BundleMissing(
            f"{model} is no base model: {component}/ holds no safetensors weights, only {pickled[0].name}, a pickle, "
            "which can run code when it is opened. Fetch the safetensors, or convert it: "
            "DiffusionPipeline.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)."
        )
    raise BundleMissing(
        f"{model} is no base model: {component}/ holds no safetensors weights. "
        "Point to a diffusers folder saved with safe_serialization=True."
    )


def _complete(model: Path, component: str, files: list[Path]) -> list[Path]:
    """Return the files if they hold all of the weights, and hold them once; raise BundleMissing otherwise."""
    shards: dict[str | None, set[int]] = {}
    for file in files:
        found = _WEIGHTS.fullmatch(file.name)
        assert found is not None  # `files` are of such names
        shards.setdefault(found["shards"], set()).add(int(found["shard"] or 1))
    if len(shards) > 1 or (None in shards and len(files) > 1):
        raise BundleMissing(
            f"{model} is no base model: {component}/ holds its weights more than once, in "
            f"{' and '.join(file.name for file in files[:4])}. Keep one of them: which one is loaded differs."
        )
    ((of, numbers),) = shards.items()
    if of is not None and (missing := int(of) - len(numbers)):
        first = next(number for number in itertools.count(1) if number not in numbers)
        raise BundleMissing(
            f"{model} is no base model: {component}/ lacks {missing} of the {int(of)} files of its weights, the first "
            f"of them number {first}, beside {files[0].name}. Fetch the base model again."
        )
    return files


def _places(file: Path) -> dict[str, _Place]:
    """Place of each tensor in a file whose header is sound."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    return {
        key: _Place(value["dtype"], tuple(value["shape"]), 8 + size + value["data_offsets"][0])
        for key, value in header.items()
        if key != "__metadata__"
    }


def _reader(file: Path, tensors: Any, key: str, place: _Place) -> _Read:
    def read() -> npt.NDArray[np.float32]:
        if place.dtype == "BF16":
            # numpy has no bfloat16: its bits are the upper half of a float32.
            upper = np.fromfile(file, "<u2", math.prod(place.shape), offset=place.offset).astype(np.uint32)
            return (upper << 16).view(np.float32).reshape(place.shape)
        array: npt.NDArray[np.float32] = tensors.get_tensor(key).astype(np.float32)
        return array

    return read
