"""The bundle: a base model as ONNX graphs in one folder, with an index that says what is in it.

    text_encoder/ unet/ vae_decoder/ vae_encoder/    model.onnx and config.json, in optimum's layout
    tokenizer/ scheduler/ model_index.json           as in the diffusers folder it was made from
    impasto.json                                     a `BundleIndex`

`export` writes bundles, `edge_sdk.inference` reads them; this module is the one description of the format.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_sdk.errors import BundleCorrupt, BundleMissing

INDEX = "impasto.json"
REQUIRED = (
    "text_encoder/model.onnx",
    "unet/model.onnx",
    "vae_decoder/model.onnx",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
)
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[int, Meta(ge=1, le=2**20)]
# What the denoiser computes in; every bundle is fed and gives float32.
Precision = Literal["fp32", "fp16", "int8"]


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A linear layer of the UNet that takes LoRA factors; `name` is its PEFT path, "unet." included."""

    name: Annotated[str, Meta(min_length=1, max_length=500)]
    in_features: Positive
    out_features: Positive

    @property
    def input_a(self) -> str:
        """The ONNX input of shape (in_features, rank): LoRA's A, transposed."""
        return f"{self.name}.lora_A.weight"

    @property
    def input_b(self) -> str:
        """The ONNX input of shape (rank, out_features): LoRA's B, transposed."""
        return f"{self.name}.lora_B.weight"


class BundleIndex(msgspec.Struct, frozen=True, kw_only=True):
    """impasto.json.

    base_id: `compute_base_id` of the base model; image_size: pixels a side; vae_scale_factor: pixels per latent, a
    side;
    vae_scaling_factor: what latents are divided by before decoding; files: SHA-256 of every other file in the folder.
    """

    format: Literal[1] = 1
    base_id: Sha256
    pipeline: Literal["StableDiffusionPipeline"] = "StableDiffusionPipeline"
    image_size: Positive
    vae_scale_factor: Positive
    latent_channels: Positive
    vae_scaling_factor: Annotated[float, Meta(gt=0)]
    precision: Precision = "fp32"
    slots: list[Slot]
    files: dict[str, Sha256]
    versions: dict[str, str] = {}

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one picture's latents."""
        side = self.image_size // self.vae_scale_factor
        return self.latent_channels, side, side


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose index has been read."""

    folder: Path
    index: BundleIndex

    @classmethod
    def load(cls, folder: Path | str, *, verify: bool = True) -> Bundle:
        """Read the index of a bundle and check its files.

        verify: compare every file with its hash (reads them all, about a second per gigabyte); False only looks whether
        they are there.

        Raises:
            BundleMissing: there is no impasto.json in the folder.
            BundleCorrupt: the index makes no sense, a file is missing, or a file is not the one that was exported.
        """
        folder = Path(folder)
        try:
            data = (folder / INDEX).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise BundleMissing(
                f"There is no bundle in {folder}: it has no {INDEX}. Make one with `impasto-export MODEL {folder}`."
            ) from error
        try:
            index = msgspec.json.decode(data, type=BundleIndex)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BundleCorrupt(
                f"{folder / INDEX} cannot be used ({error}): export or copy the bundle again."
            ) from error
        for name in {*REQUIRED, *index.files}:
            _check_file(folder, name, index.files.get(name), verify)
        return cls(folder, index)

    def path(self, name: str) -> Path:
        """A file of the bundle, by its name in the index."""
        return self.folder / name


def write_index(folder: Path, index: BundleIndex) -> None:
    """Write impasto.json, indented for people."""
    text = msgspec.json.format(msgspec.json.encode(index), indent=1)
    (folder / INDEX).write_bytes(text + b"\n")


def hash_files(folder: Path) -> dict[str, str]:
    """Name (with forward slashes) -> SHA-256 of every file under `folder` but the index."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / INDEX)
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}


def _check_file(folder: Path, name: str, expected: str | None, verify: bool) -> None:
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts or "\\" in name:
        raise BundleCorrupt(
            f"{folder / INDEX} names {name!r}, which is outside the bundle: get it from a trusted source."
        )
    if expected is None:
        raise BundleCorrupt(f"{folder / INDEX} does not list {name}: export the bundle again.")
    path = folder / name
    if not path.is_file():
        raise BundleCorrupt(f"{path} is missing: export or copy the bundle again.")
    if verify and _sha256(path) != expected:
        raise BundleCorrupt(
            f"{path} is not the file that was exported (its hash differs): export or copy the bundle again."
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
