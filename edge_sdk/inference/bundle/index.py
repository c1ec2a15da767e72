"""The bundle: a base model as ONNX graphs in one folder, with an index of its contents.

    text_encoder/ unet/ vae_decoder/ vae_encoder/    model.onnx and config.json, in optimum's layout
    text_encoder_2/ tokenizer_2/                     SDXL's second ones
    preview_decoder/                                 a quick decoder, if the bundle has one
    image_encoder/                                   an encoder of pictures for picture codes, if the bundle has one
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

from edge_sdk.adapter import Shape
from edge_sdk.errors import BundleCorrupt, BundleMissing
from edge_sdk.inference.bundle.base_model import MODEL_INDEX

INDEX = "impasto.json"
# Step reuse: the shallow part of the UNet, which runs at every step over the same file of weights, and its input, the
# deep features that the whole UNet computed.
SHALLOW = "unet/shallow.onnx"
DEEP = "deep_sample"
# The public basis of prompt codes, see `edge_sdk.privacy`.
BASIS = "prompt_basis.safetensors"
IMAGE_ENCODER = "image_encoder"
_TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[int, Meta(ge=1, le=2**20)]
Finite = Annotated[float, Meta(ge=-1e6, le=1e6)]
Scale = Annotated[float, Meta(gt=0, le=1e6)]
Pipeline = Literal["StableDiffusionPipeline", "StableDiffusionXLPipeline", "LatentConsistencyModelPipeline"]
# Precision in which the denoiser computes; inputs and outputs of every bundle are float32.
BundlePrecision = Literal["fp32", "fp16", "int8"]


def graph_file(stage: str) -> str:
    """The file of a stage's graph, relative to the bundle."""
    return SHALLOW if stage == "unet_shallow" else f"{stage}/model.onnx"


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A layer of the UNet that takes LoRA factors.

    name: its PEFT path, "unet." included.
    in_features, out_features, kernel: its shape, as `edge_sdk.adapter.Shape` has it; bundles made before convolutions
        had slots state no kernel.
    """

    name: Annotated[str, Meta(min_length=1, max_length=500)]
    in_features: Positive
    out_features: Positive
    kernel: tuple[Positive, Positive] | None = None

    @property
    def shape(self) -> Shape:
        return Shape(self.in_features, self.out_features, self.kernel)

    @property
    def input_a(self) -> str:
        """The ONNX input of shape (in_features, rank): LoRA's A, a convolution's flattened, transposed."""
        return f"{self.name}.lora_A.weight"

    @property
    def input_b(self) -> str:
        """The ONNX input of shape (rank, out_features): LoRA's B, transposed."""
        return f"{self.name}.lora_B.weight"


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """Drawing settings that apply when the caller gives none; models distilled to a few steps need their own."""

    steps: Annotated[int, Meta(ge=1, le=1000)] = 25
    guidance: Annotated[float, Meta(ge=0, le=100)] = 5.0
    scheduler: Annotated[str, Meta(max_length=50)] = "dpm++"


class Fused(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA file that the export added to the weights; adapters of the base model still fit.

    layers: number of layers that it changed: all that are in the file.
    """

    name: Annotated[str, Meta(max_length=500)]
    sha256: Sha256
    weight: float
    layers: Positive | None = None


class PromptBasis(msgspec.Struct, frozen=True, kw_only=True):
    """The public basis of prompt codes, in the file `BASIS`.

    id: hash of its sources, the base model and the public captions; devices and coordinator compare it.
    """

    id: Sha256


class ImageEncoder(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle's image encoder, and the preprocessing of its pictures: that of CLIPImageProcessor.

    The shorter side is resized (bicubic), the central square cut out, and each channel normalised.

    id: hash of its weights, settings and preprocessing; devices and coordinator compare it.
    resize: pixels of the shorter side after resizing.
    size: pixels a side of the square that the encoder sees.
    mean, std: of each channel of values in 0..1; red, green, blue.
    dimensions: numbers in an embedding.
    """

    id: Sha256
    resize: Annotated[int, Meta(ge=1, le=4096)]
    size: Annotated[int, Meta(ge=1, le=4096)]
    mean: tuple[Finite, Finite, Finite]
    std: tuple[Scale, Scale, Scale]
    dimensions: Annotated[int, Meta(ge=1, le=4096)]

    def __post_init__(self) -> None:
        if self.size > self.resize:
            raise ValueError(f"a square of {self.size} pixels cannot be cut out of {self.resize}")


class BundleIndex(msgspec.Struct, frozen=True, kw_only=True):
    """The content of impasto.json.

    format: 2; in bundles of format 1 the UNet takes one timestep for all pictures instead of one for each.
    base_id: `compute_base_id` of the base model.
    image_size: pixels a side that it was trained for.
    size_step: pixels; sides of pictures must be multiples of it.
    vae_scale_factor: pixels per latent, along one side.
    vae_scaling_factor, preview_scaling_factor: divisors of latents before the full and the quick decoding; the latter
        is None without a quick decoder.
    condition_outputs: for each text encoder, the output that conditions the UNet.
    guidance_dim: width of the guidance scale's embedding; None if the UNet takes none.
    zero_empty_negative: True if an empty negative prompt is embedded as zeros.
    defaults: drawing settings that apply when the caller gives none.
    shallow_slots: the slots that the UNet's shallow part has too; None without step reuse.
    fused: LoRA files that the export added to the weights.
    prompt_basis: the public basis of prompt codes; None in bundles of earlier versions.
    image_encoder: the encoder that picture codes are made with; None without one. It is no part of the base id.
    files: SHA-256 of every other file in the folder.
    """

    format: Literal[1, 2] = 2
    base_id: Sha256
    pipeline: Pipeline = "StableDiffusionPipeline"
    image_size: Positive
    size_step: Positive
    vae_scale_factor: Positive
    latent_channels: Positive
    vae_scaling_factor: Annotated[float, Meta(gt=0)]
    preview_scaling_factor: Annotated[float, Meta(gt=0)] | None = None
    condition_outputs: tuple[str, ...] = ("last_hidden_state",)
    guidance_dim: Positive | None = None
    zero_empty_negative: bool = False
    defaults: Defaults = Defaults()
    precision: BundlePrecision = "fp32"
    slots: list[Slot]
    shallow_slots: list[str] | None = None
    fused: list[Fused] = []
    prompt_basis: PromptBasis | None = None
    image_encoder: ImageEncoder | None = None
    files: dict[str, Sha256]
    versions: dict[str, str] = {}

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the graphs, in the order in which a prompt passes through them."""
        xl = ("text_encoder_2",) if self.pipeline == "StableDiffusionXLPipeline" else ()
        preview = () if self.preview_scaling_factor is None else ("preview_decoder",)
        shallow = () if self.shallow_slots is None else ("unet_shallow",)
        pictures = () if self.image_encoder is None else (IMAGE_ENCODER,)
        return ("text_encoder", *xl, "unet", *shallow, "vae_decoder", "vae_encoder", *preview, *pictures)

    @property
    def takes_timesteps(self) -> bool:
        """True if the UNet takes a timestep for each picture, shape (n,); else one number for all."""
        return self.format >= 2

    @property
    def variant(self) -> str:
        """The precision of the denoiser, with a hash of the LoRA files that were fused into it, if there are any.

        Bundles of one base id that differ in it do not draw the same.
        """
        if not self.fused:
            return self.precision
        parts = "".join(f"{fused.sha256}:{fused.weight:.6g};" for fused in self.fused)
        return f"{self.precision}+{hashlib.sha256(parts.encode()).hexdigest()[:16]}"

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """Folders of the tokenizers, in the order of the text encoders."""
        return ("tokenizer", "tokenizer_2") if self.pipeline == "StableDiffusionXLPipeline" else ("tokenizer",)

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the files without which nothing can be drawn."""
        graphs = (graph_file(stage) for stage in self.stages)
        words = (f"{folder}/{name}" for folder in self.tokenizers for name in _TOKENIZER_FILES)
        basis = () if self.prompt_basis is None else (BASIS,)
        return (*graphs, *words, *basis, "scheduler/scheduler_config.json")

    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, int, int]:
        """Shape (channels, height, width) of one picture's latents.

        height, width: the picture's, in pixels; None takes the size that the base model was trained for.
        """
        sides = (side or self.image_size for side in (height, width))
        tall, wide = (side // self.vae_scale_factor for side in sides)
        return self.latent_channels, tall, wide


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose index has been read."""

    folder: Path
    index: BundleIndex

    @classmethod
    def load(cls, folder: Path | str, *, verify: bool = True) -> Bundle:
        """Read the index of a bundle and check its files.

        verify: compare every file with its hash (reads all of them, about a second per gigabyte); False only checks
        that they exist.

        Raises:
            BundleMissing: there is no impasto.json in the folder.
            BundleCorrupt: the index makes no sense, a file is missing, or a file is not the one that was exported.
        """
        folder = Path(folder)
        try:
            data = (folder / INDEX).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise BundleMissing(_no_bundle(folder)) from error
        try:
            index = msgspec.json.decode(data, type=BundleIndex)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BundleCorrupt(
                f"{folder / INDEX} cannot be used ({str(error)[:500]}): export or copy the bundle again."
            ) from error
        for name in {*index.required, *index.files}:
            _check_file(folder, name, index.files.get(name), verify)
        return cls(folder, index)

    def path(self, name: str) -> Path:
        """A file of the bundle, by its name in the index."""
        return self.folder / name


def _no_bundle(folder: Path) -> str:
    """The message for a folder without an index: what it seems to be instead, and what to do."""
    if not folder.exists():
        return (
            f"There is no bundle in {folder}: there is no such folder. Correct its name, or make one with "
            f"`impasto-export MODEL {folder}`."
        )
    if (folder / graph_file("unet")).is_file():
        return f"{folder / INDEX} is missing, without which nothing is known of the bundle: export or copy it again."
    if (folder / MODEL_INDEX).is_file():
        return (
            f"There is no bundle in {folder}: it is a base model. Make a bundle of it with `impasto-export {folder} "
            "bundle/`, and draw with that."
        )
    return f"There is no bundle in {folder}: it has no {INDEX}. Make one with `impasto-export MODEL {folder}`."


def write_index(folder: Path, index: BundleIndex) -> None:
    """Write impasto.json, indented for people."""
    text = msgspec.json.format(msgspec.json.encode(index), indent=1)
    (folder / INDEX).write_bytes(text + b"\n")


def hash_files(folder: Path) -> dict[str, str]:
    """Map of name (with forward slashes) -> SHA-256 for every file under `folder` but the index."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / INDEX)
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}


def _check_file(folder: Path, name: str, expected: str | None, verify: bool) -> None:
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts or "\\" in name:
        raise BundleCorrupt(
            f"{folder / INDEX} names {name[:200]!r}, which is outside the bundle: get it from a trusted source."
        )
    if expected is None:
        raise BundleCorrupt(f"{folder / INDEX} does not list {name[:200]}: export the bundle again.")
    path = folder / name
    try:
        there = path.is_file()
    except OSError:  # a name that no file can have
        there = False
    if not there:
        raise BundleCorrupt(f"{folder / name[:200]} is missing: export or copy the bundle again.")
    if verify and sha256_of(path) != expected:
        raise BundleCorrupt(
            f"{path} is not the file that was exported (its hash differs): export or copy the bundle again."
        )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, read piece by piece."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
