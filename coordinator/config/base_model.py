"""The base model as a coordinator knows it: the description that the export wrote into impasto.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge_sdk.adapter import LAYER_SETS, LayerSet, Shape, in_layer_set
from edge_sdk.errors import ConfigurationError

# Slots whose input is the UNet's condition.
_CONDITIONED = (".attn2.to_k", ".attn2.to_v")


class BaseModel(msgspec.Struct, frozen=True):
    """The coordinator's knowledge of the base model.

    Attributes:
        base_id: id of the base model.
        slots: name -> shape of each LoRA slot that devices train.
        basis: id of the bundle's public basis for prompt codes, 32 bytes; None in bundles of earlier versions.
        picture_dimensions: numbers in an embedding of a picture; None if the bundle has no image encoder.
        picture_encoder: id of the image encoder, 32 bytes; empty without one.
    """

    base_id: str
    slots: Mapping[str, Shape]
    basis: bytes | None = None
    picture_dimensions: int | None = None
    picture_encoder: bytes = b""

    def update_size(self, rank: int) -> int:
        """Return an upper bound, in bytes, of a float32 adapter of this rank over all slots, header included."""
        floats = sum(rank * (shape.in_features + shape.out_features) for shape in self.slots.values())
        return 4 * floats + 1024 * (len(self.slots) + 64)

    @property
    def code_dimensions(self) -> int | None:
        """Width of the UNet's condition, of which prompt codes are made. None if no slot shows it."""
        widths = {shape.in_features for name, shape in self.slots.items() if name.endswith(_CONDITIONED)}
        return widths.pop() if len(widths) == 1 else None


class _Slot(msgspec.Struct, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=500)]
    in_features: Annotated[int, Meta(ge=1, le=2**20)]
    out_features: Annotated[int, Meta(ge=1, le=2**20)]
    kernel: tuple[Annotated[int, Meta(ge=1, le=64)], Annotated[int, Meta(ge=1, le=64)]] | None = None


class _Basis(msgspec.Struct, frozen=True):
    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class _ImageEncoder(msgspec.Struct, frozen=True):
    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    dimensions: Annotated[int, Meta(ge=1, le=4096)]


class _Impasto(msgspec.Struct, frozen=True):
    """The part of impasto.json that the coordinator reads."""

    base_id: Annotated[str, Meta(min_length=1, max_length=128)]
    slots: Annotated[list[_Slot], Meta(min_length=1)]
    prompt_basis: _Basis | None = None
    image_encoder: _ImageEncoder | None = None


def read_base_model(path: Path, layers: LayerSet = "attention") -> BaseModel:
    """Read the base id and the slots that devices train from a bundle's impasto.json, or from a copy of it.

    layers: the set of layers that devices train.

    Raises:
        ConfigurationError: the file is missing, was not written by the export, or lacks slots that devices train.
    """
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_Impasto)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot read {path}: {error}. `impasto-export MODEL BUNDLE` makes a bundle; name it as `bundle`."
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(
            f"{path} is not the impasto.json of a bundle of this version: {str(error)[:500]}. `impasto-export MODEL "
            "BUNDLE --overwrite` makes it again; with the same base model, what was learnt goes on."
        ) from error
    trained = [slot for slot in content.slots if in_layer_set(slot.name, layers)]
    if not _is_whole([slot.name for slot in trained], layers):
        raise ConfigurationError(
            f"{path} has no LoRA slots for the layers that devices train (layers = {layers!r}): export the bundle with "
            f"--slots {layers}."
        )
    slots = {slot.name: Shape(slot.in_features, slot.out_features, slot.kernel) for slot in trained}
    basis = None if content.prompt_basis is None else bytes.fromhex(content.prompt_basis.id)
    encoder = content.image_encoder
    base = BaseModel(base_id=content.base_id, slots=slots, basis=basis)
    if encoder is None:
        return base
    return msgspec.structs.replace(
        base, picture_dimensions=encoder.dimensions, picture_encoder=bytes.fromhex(encoder.id)
    )


def _is_whole(names: Sequence[str], layers: LayerSet) -> bool:
    """True if some of these slots are in no smaller set than `layers`: a bundle has the slots of a whole set."""
    smaller = LAYER_SETS[: LAYER_SETS.index(layers)][-1:]
    return any(not any(in_layer_set(name, which) for which in smaller) for name in names)
