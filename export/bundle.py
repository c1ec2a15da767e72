"""The whole export, in order: load, identify, export each part, rewrite it, verify it, describe it, put it in place.

All files are written beside the target and renamed at the end, so that a bundle is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec
from transformers import PreTrainedModel

from edge_sdk import durable
from edge_sdk.adapter import LayerSet
from edge_sdk.errors import ExportError, describe
from edge_sdk.inference.bundle import (
    INDEX,
    Bundle,
    BundleIndex,
    BundlePrecision,
    Defaults,
    Fused,
    Slot,
    compute_base_id,
    hash_files,
    write_index,
)
from edge_sdk.inference.sampling import SCHEDULERS
from export.basis import add_basis
from export.graphs import (
    add_lora_slots,
    check_split,
    clean,
    fuse_attention,
    name_layers,
    save_graph,
    split_unet,
)
from export.precision import check_precision, convert
from export.public_captions import captions_for, checked_captions
from export.source import (
    FusedLora,
    Part,
    choose_image_encoder,
    condition_outputs,
    defaults_of,
    find_model,
    fuse_lora,
    image_size,
    kind_of,
    load_pipeline,
    load_preview,
    parts_of,
    slots_of,
    to_onnx,
    unet_step,
    vae_scale_factor,
    write_tokenizer,
)
from export.verify import check_part

_SCHEDULER = "scheduler/scheduler_config.json"
# Called with the present step in words and the share of the work that is done; a conversion counts from 0 again.
OnProgress: TypeAlias = Callable[[str, float], None]
_PACKAGES = ("impasto", "torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    Attributes:
        folder: the bundle.
        index: its index.
        errors: name of each comparison -> relative error; empty if nothing was verified.
    """

    folder: Path
    index: BundleIndex
    errors: dict[str, float]


def export_model(
    model: str | Path,
    out: str | Path,
    *,
    precision: BundlePrecision = "fp32",
    prompts: Sequence[str] | None = None,
    captions: Sequence[Sequence[str]] | None = None,
    verify: bool = True,
    overwrite: bool = False,
    slots: LayerSet = "attention",
    fuse: Sequence[FusedLora] = (),
    preview: str | Path | None = None,
    image_encoder: str | Path | bool = True,
    step_reuse: bool = False,
    defaults: Mapping[str, int | float | str] = MappingProxyType({}),
    on_progress: OnProgress = lambda what, share: None,
) -> Exported:
    """Export a diffusers pipeline to a bundle.

    Args:
        model: a diffusers folder or a hub id.
        out: the bundle's folder. It must be missing or empty, or be a bundle if `overwrite`.
        precision: "fp32", "fp16" for graphics processors, or "int8" for processors.
        prompts: prompts to calibrate int8 with, of the kind that people will type; None: a mixed list.
        captions: public captions of each of many styles, of which the basis of prompt codes is made; None: those in
            captions.txt beside the model's weights, or else common subjects in common styles. Devices of a federation
            need bundles with the same captions.
        verify: compare each part with torch on random input, the UNet also with a random adapter.
        overwrite: replace a bundle.
        slots: layers that take adapters, see `export.source.slots`.
        fuse: LoRA files to add to the weights, such as an LCM-LoRA, with all of their layers, those of text encoders
            included. The base id stays, so that adapters of the base model fit.
        preview: a diffusers folder of an AutoencoderTiny (TAESD) for quick decoding.
        image_encoder: the image encoder that devices make picture codes with: True for the base model's own, if it has
            one; False for none; or the folder of a CLIPVisionModelWithProjection.
        step_reuse: write the graph that `Generator.generate(reuse=...)` needs.
        defaults: "steps", "guidance", "scheduler" to draw with when the caller sets none; missing ones follow from the
            base model's files.
        on_progress: called with the present step in a few words and the share of the work that is done; an error that
            it raises ends the export, which leaves nothing behind.

    Raises:
        ExportError: the model or the image encoder cannot be exported, a LoRA file does not fit, the precision is
            unknown, the captions are too few, or `out` is in use.
        CalibrationError: there are too few prompts.
        VerificationFailed: a graph differs from torch by more than 1e-3.
        BundleMissing, BundleCorrupt: the model has no readable safetensors weights.
    """
    out = Path(out).absolute()
    check_precision(precision, prompts)
    given = None if captions is None else checked_captions(captions, "The list of public captions")
    _check_target(out, overwrite)
    on_progress("find the base model", 0.0)
    source = find_model(str(model))
    public = captions_for(source) if given is None else given
    with _beside(out) as folder:
        try:
            on_progress("load the base model", 0.0)
            pipeline = load_pipeline(source)
            base_id = compute_base_id(source)
            tiny = None if preview is None else load_preview(Path(preview), pipeline)
            encoder = choose_image_encoder(image_encoder, source)
            before = _text_weights(pipeline) if fuse else []
            fused = [fuse_lora(pipeline, lora, base_id) for lora in fuse]
            texts_changed = bool(fuse) and _text_weights(pipeline) != before
            of_text = [f"{lora.sha256}*{lora.weight}" for lora in fused] if texts_changed else []
            index = _describe(pipeline, tiny, source, base_id, slots, fused, defaults)
            index = msgspec.structs.replace(index, image_encoder=encoder and encoder.settings)
            # Before the networks, which take minutes: devices could not follow some tokenizers.
            _write_companions(pipeline, source, index.tokenizers, folder)
            parts = parts_of(pipeline, tiny, encoder and encoder.network)
            errors = _write_parts(parts, index.slots, folder, verify, on_progress)
            write_index(folder, msgspec.structs.replace(index, files=hash_files(folder)))
            on_progress("make the basis of prompt codes", 0.0)
            add_basis(folder, public, of_text, lambda share: on_progress("make the basis of prompt codes", share))
            errors |= convert(folder, precision, prompts, on_progress)
            index = Bundle.load(folder, verify=False).index
            if step_reuse:
                on_progress("cut the UNet for step reuse", 0.0)
                index = msgspec.structs.replace(index, shallow_slots=split_unet(folder / "unet", index.slots))
                errors["unet, shallow part"] = check_split(folder / "unet", index.latent_shape())
                index = msgspec.structs.replace(index, files=hash_files(folder))
                write_index(folder, index)
            _put_in_place(folder, out)
        except OSError as error:
            raise ExportError(f"{out} could not be finished, nothing was written: {describe(error)}.") from error
    return Exported(out, index, errors)


def _text_weights(pipeline: Any) -> list[bytes]:
    """Return hashes of the weights of the text encoders."""
    encoders = [getattr(pipeline, name, None) for name in ("text_encoder", "text_encoder_2")]
    return [
        hashlib.sha256(weight.detach().cpu().float().numpy().tobytes()).digest()
        for encoder in encoders
        if encoder is not None
        for weight in encoder.parameters()
    ]


def _describe(
    pipeline: Any,
    preview: Any,
    source: Path,
    base_id: str,
    slots: LayerSet,
    fused: list[Fused],
    defaults: Mapping[str, int | float | str],
) -> BundleIndex:
    """Return the index without the files' hashes."""
    found = slots_of(pipeline.unet, slots)
    if not found:
        raise ExportError(
            f"{source} has no transformer block in its UNet: there is nothing that an adapter could change."
        )
    return BundleIndex(
        base_id=base_id,
        pipeline=kind_of(source),
        image_size=image_size(pipeline),
        size_step=unet_step(pipeline.unet) * vae_scale_factor(pipeline),
        vae_scale_factor=vae_scale_factor(pipeline),
        latent_channels=pipeline.vae.config.latent_channels,
        vae_scaling_factor=pipeline.vae.config.scaling_factor,
        preview_scaling_factor=None if preview is None else preview.config.scaling_factor,
        condition_outputs=condition_outputs(pipeline),
        guidance_dim=pipeline.unet.config.time_cond_proj_dim,
        zero_empty_negative=bool(pipeline.config.get("force_zeros_for_empty_prompt", False)),
        defaults=_defaults(pipeline, defaults),
        slots=found,
        fused=fused,
        files={},
        versions={package: version(package) for package in _PACKAGES},
    )


def _write_parts(
    parts: Sequence[Part], slots: Sequence[Slot], folder: Path, verify: bool, on_progress: OnProgress
) -> dict[str, float]:
    errors: dict[str, float] = {}
    for done, part in enumerate(parts):
        on_progress(f"export {part.name}", done / len(parts))
        own = slots if part.name == "unet" else ()
        path = _write_part(part, folder / part.name, own)
        if verify:
            on_progress(f"verify {part.name}", (done + 0.5) / len(parts))
            # The autoencoder has two parts, which share their network.
            last_use = all(later.network is not part.network for later in parts[done + 1 :])
            errors |= check_part(part, path, own, last_use=last_use)
    return errors


def _defaults(pipeline: Any, stated: Mapping[str, int | float | str]) -> Defaults:
    values = msgspec.structs.asdict(defaults_of(pipeline)) | dict(stated)
    try:
        chosen = msgspec.convert(values, Defaults)
    except msgspec.ValidationError as error:
        raise ExportError(f"The bundle cannot have these defaults: {error}.") from error
    if chosen.scheduler not in SCHEDULERS:
        raise ExportError(f"There is no scheduler {chosen.scheduler!r}; choose one of {', '.join(SCHEDULERS)}.")
    return chosen


def _write_part(part: Part, folder: Path, slots: Sequence[Slot]) -> Path:
    folder.mkdir()
    model = to_onnx(part)
    fuse_attention(model)
    add_lora_slots(model, slots)
    name_layers(model)
    clean(model, f"Impasto bundle, {part.name}")
    path = folder / "model.onnx"
    save_graph(model, path)
    # transformers keeps its configuration in an object of its own, diffusers in the model.
    if isinstance(part.network, PreTrainedModel):
        part.network.config.save_pretrained(folder)
    else:
        part.network.save_config(folder)
    _forget_origin(folder / "config.json")
    return path


def _write_companions(pipeline: Any, source: Path, tokenizers: Sequence[str], folder: Path) -> None:
    """Write tokenizers, scheduler and pipeline index, as optimum reads them."""
    for name in tokenizers:
        write_tokenizer(getattr(pipeline, name), source / name, folder / name)
    (folder / "scheduler").mkdir()
    (folder / _SCHEDULER).write_text(json.dumps(_scheduler_config(pipeline, source), indent=2) + "\n", "utf-8")
    pipeline.save_config(folder)
    _forget_origin(folder / "model_index.json")


def _forget_origin(path: Path) -> None:
    """Remove the local path that diffusers writes into its configurations."""
    config = json.loads(path.read_text("utf-8"))
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def _scheduler_config(pipeline: Any, source: Path) -> dict[str, Any]:
    """Return the scheduler configuration of the base model, as corrected by StableDiffusionPipeline.

    Corrected are steps_offset and clip_sample. Values that the file leaves out stay out, because each scheduler has
    defaults of its own for them.
    """
    stated = json.loads((source / _SCHEDULER).read_text("utf-8"))
    corrected = {key: pipeline.scheduler.config[key] for key in ("steps_offset", "clip_sample") if key in stated}
    return {**stated, **corrected}


def _check_target(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if out.is_dir() and not any(out.iterdir()):
        return
    if not out.is_dir() or not (out / INDEX).is_file():
        raise ExportError(f"{out} exists and is no bundle: choose another folder.")
    if not overwrite:
        raise ExportError(f"{out} already holds a bundle: choose another folder, or ask to overwrite it.")


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A new folder on the same disk as `out`, removed at the end if it is still there."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = durable.new_folder(out)
    except OSError as error:
        raise ExportError(f"Cannot write into {out.parent}: {error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(folder: Path, out: Path) -> None:
    """Rename `folder` to `out`; an old bundle there is moved away first and deleted last."""
    if out.exists() and any(out.iterdir()):
        old = folder.with_name(f"{folder.name}-old")
        out.rename(old)
        folder.rename(out)
        shutil.rmtree(old)
    else:
        folder.rename(out)
