"""The UNet's weights as training reads them: convolutions as (O, kH, kW, I), matrices in bfloat16 or float32.

Laid out once, into a file of the cache, they are mapped: the base model's own file is not read again, and the weights
are clean pages, shared by all processes, which the system drops when memory is short and reads again. A convolution is
a view of its stored weight (`permute`), in the order that the kernels want (channels last).

Norms and biases stay float32. The file is written tensor by tensor: laying out takes the memory of one of them.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from edge_sdk import durable
from edge_sdk.errors import ConfigurationError, DeviceBusy, NoRoomToPrepare
from edge_sdk.inference.bundle import COMPONENTS, compute_base_id, weight_files
from edge_sdk.inference.runtime import cache as caching
from edge_sdk.inference.runtime import give_back

Storage: TypeAlias = Literal["bf16", "fp32"]
DTYPES: Mapping[Storage, torch.dtype] = {"bf16": torch.bfloat16, "fp32": torch.float32}
# Bytes of weights on disk; smaller ones are read as fast as their prepared file is found.
SMALL = 32_000_000
# Seconds to wait for another process that lays out the same weights.
PATIENCE = 900.0
_WEIGHTS, _NOTE = "weights.safetensors", "prepared.json"
_NAMES = {torch.bfloat16: "BF16", torch.float32: "F32"}


class WeightsNotPrepared(UserWarning):
    """The weights to train with could not be laid out on disk: all of them are in memory, and read anew each time."""

    def __init__(self, model: Path, reason: Exception) -> None:
        super().__init__(
            f"{model} is trained with unprepared weights ({reason}). Set IMPASTO_CACHE to a folder that can be written."
        )


class _Note(msgspec.Struct, frozen=True, kw_only=True):
    """The content of prepared.json."""

    format: int = 1
    base_id: str
    storage: str
    files: dict[str, caching.File]


class _Identity(msgspec.Struct, frozen=True):
    """A base id, and the stamps of the files that it was computed from."""

    base_id: str
    files: dict[str, tuple[int, int, int]]


def weights_size(model: Path, component: str = "unet") -> int:
    """Bytes of a component's weights on disk, as the base model was published.

    Raises:
        BundleMissing: see `weight_files`.
    """
    return sum(file.stat().st_size for file in weight_files(model, component))


def pays(model: Path) -> bool:
    """True if a base model is large enough for its weights, id and encodings to be kept in the cache."""
    return weights_size(model) >= SMALL


def training_cache(model: Path, cache: Path | str | None) -> Path | None:
    """The cache, if there is one and the model is large enough for it; a user without a home folder is warned.

    Raises:
        ConfigurationError: `cache` is given and cannot be used.
    """
    if not pays(model):
        return None
    try:
        return caching.cache_folder(cache)
    except ConfigurationError as error:
        if cache is not None:
            raise
        warnings.warn(WeightsNotPrepared(model, error), stacklevel=3)
        return None


def known_base_id(model: Path, cache: Path | None) -> str:
    """The base id of a folder; one whose files have not changed since is not read again.

    Raises:
        BundleMissing, BundleCorrupt: see `compute_base_id`.
    """
    if cache is None:
        return compute_base_id(model)
    files = [file for part in COMPONENTS for file in weight_files(model, part)]
    stamps = {str(file.relative_to(model)): caching.stamp(file) for file in files}
    key = hashlib.sha256(str(model.resolve()).encode()).hexdigest()[:24]
    note = cache / caching.PREPARED / f"base-id-{key}.json"
    try:
        kept = msgspec.json.decode(note.read_bytes(), type=_Identity)
        if kept.files == stamps:
            return kept.base_id
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        pass  # there is none, or it cannot be read: it is computed anew
    found = compute_base_id(model)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        durable.write(note, msgspec.json.encode(_Identity(found, stamps)))
    except OSError:
        pass  # the next process computes it again
    return found


def unet_weights(model: Path, base_id: str, storage: Storage, cache: Path | None) -> dict[str, Tensor]:
    """Name -> weight of the UNet: mapped from the cache, laid out there first if they are missing; without a cache, in
    memory.

    Warns:
        WeightsNotPrepared: the cache cannot be used, so that they are in memory.

    Raises:
        BundleMissing: see `weight_files`.
        SafetensorError, OSError: the base model's files cannot be read.
    """
    if cache is not None:
        try:
            return viewed(load_file(_ready(model, base_id, storage, cache)))
        except (NoRoomToPrepare, DeviceBusy, PermissionError, NotADirectoryError, FileExistsError) as error:
            warnings.warn(WeightsNotPrepared(model, error), stacklevel=3)
    return viewed({name: laid_out(tensor, storage) for name, tensor in _published(model)})


def find(base_id: str, storage: Storage, cache: Path) -> Path | None:
    """Path of the prepared weights; None if they are missing or damaged."""
    folder = place(base_id, storage, cache)
    try:
        note = msgspec.json.decode((folder / _NOTE).read_bytes(), type=_Note)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    touched = caching.touched(folder, note.files)
    if (note.base_id, note.storage, set(note.files)) != (base_id, storage, {_WEIGHTS}) or touched is None:
        return None
    if touched:
        with suppress(OSError):  # in a folder that cannot be written, they are hashed again the next time
            _write_note(folder, msgspec.structs.replace(note, files=note.files | touched))
    return folder / _WEIGHTS


def place(base_id: str, storage: Storage, cache: Path) -> Path:
    """Folder of prepared weights, which need not exist."""
    return cache / caching.PREPARED / f"training-{storage}-{base_id[:24]}"


def _ready(model: Path, base_id: str, storage: Storage, cache: Path) -> Path:
    folder = place(base_id, storage, cache)

    def check() -> None:
        needed = sum(stored_size(tensor.numel(), tensor.ndim, storage) for _, tensor in _published(model))
        caching.check_room(folder, needed, f"Laying out the weights of {model} for training", "train a smaller model")

    def prepare() -> Path:
        caching.make(folder, lambda work: _fill(work, model, base_id, storage))
        give_back()
        return folder / _WEIGHTS

    return caching.made_once(folder, lambda: find(base_id, storage, cache), check, prepare, PATIENCE)


def _fill(work: Path, model: Path, base_id: str, storage: Storage) -> None:
    _write(work / _WEIGHTS, model, storage)
    caching.sync(work / _WEIGHTS)
    _write_note(work, _Note(base_id=base_id, storage=storage, files={_WEIGHTS: caching.describe(work / _WEIGHTS)}))


def _write_note(folder: Path, note: _Note) -> None:
    durable.write(folder / _NOTE, msgspec.json.format(msgspec.json.encode(note)))


def _write(path: Path, model: Path, storage: Storage) -> None:
    """Write a safetensors file one tensor at a time: a header of names, types, shapes and places, then the values."""
    header: dict[str, object] = {}
    end = 0
    for name, tensor in _published(model):
        begin, end = end, end + stored_size(tensor.numel(), tensor.ndim, storage)
        shape = list(tensor.permute(0, 2, 3, 1).shape) if tensor.ndim == 4 else list(tensor.shape)
        header[name] = {"dtype": _NAMES[_dtype(tensor.ndim, storage)], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)  # values begin at a multiple of 64 bytes
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in _published(model):
            file.write(laid_out(tensor, storage).flatten().view(torch.uint8).numpy().data)


def _published(model: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and weight of the UNet in its own files, one after the other, always in the same order.

    The vectors, which stay float32, come first: then the place of each is aligned to its type.
    """
    for file in weight_files(model, "unet"):
        with safetensors.safe_open(file, "pt") as opened:
            names = sorted(opened.keys(), key=lambda name: (len(opened.get_slice(name).get_shape()) > 1, name))
            for name in names:
                yield name, opened.get_tensor(name)


def _dtype(dimensions: int, storage: Storage) -> torch.dtype:
    return DTYPES[storage] if dimensions > 1 else torch.float32


def stored_size(numbers: int, dimensions: int, storage: Storage) -> int:
    """Bytes of a weight as it is stored: matrices in the given type, vectors in float32."""
    return int(numbers * _dtype(dimensions, storage).itemsize)


def laid_out(tensor: Tensor, storage: Storage) -> Tensor:
    """A weight as it is stored."""
    turned = tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor
    return turned.to(_dtype(tensor.ndim, storage)).contiguous()


def viewed(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in torch's order of dimensions, as views of the stored ones."""
    return {name: tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor for name, tensor in stored.items()}
