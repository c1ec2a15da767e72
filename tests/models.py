"""Tiny base models with random weights: genuine StableDiffusionPipeline folders, and bundles exported from them.

`tiny_model(kind)` and `tiny_bundle(kind)` build once per test session, whichever of its processes comes first, and
return the same folder afterwards: treat it as read-only, or copy it. Two kinds are the ends of what must work, and most
tests take both:

    "v_prediction"  like the stickers demo: 32 tokens, linear betas, trailing steps, no attention in the autoencoder
    "epsilon"       like Stable Diffusion 1.5: 77 tokens, PNDM with scaled-linear betas, attention in the autoencoder

The others are the rest of the families:

    "sd2"           like Stable Diffusion 2.1: v-prediction, linear projections, upcast attention, attention at the
                    outer level as in all of Stable Diffusion; exported for step reuse
    "bk_sdm"        like BK-SDM and Segmind's tiny-sd: no middle block, one layer a block
    "turbo"         like SD-Turbo: Euler's scheduler at trailing steps
    "lcm"           like an LCM: the guidance scale is an input
    "xl"            like SDXL: two text encoders, pooled prompt and geometry as further conditions

`tiny_image_encoder()` is a tiny CLIPVisionModelWithProjection with its preprocessing, `picture_model()` the default
kind with it, and `picture_bundle()` the bundle of that.

`stickers_bundle()` is the bundle of the samples' base model.

The tiny ones draw 32x32 pictures from 4x8x8 latents. torch is imported inside the functions, so that importing this
module is cheap.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edge_sdk.lockfile import LockFile

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTokenizer

Kind = Literal["v_prediction", "epsilon", "sd2", "bk_sdm", "turbo", "lcm", "xl"]
KINDS: tuple[Kind, ...] = ("v_prediction", "epsilon")
FAMILIES: tuple[Kind, ...] = ("sd2", "bk_sdm", "turbo", "lcm", "xl")
# Names the folder that the processes of a session share.
SESSION = "IMPASTO_TEST_SESSION"
_PATIENCE = 600.0
# The base model of the samples, which is no tiny one.
STICKERS = Path(__file__).parents[1] / "samples" / "stickers" / "model"
IMAGE_SIZE = 32
LATENT_SHAPE = (4, 8, 8)
WIDTH = 32
EMBEDDING = 16

_CORPUS = (
    "a red fox jumping over the lazy dog",
    "a watercolour painting of a mountain lake at night",
    "black ink stamp of a cat face, flat icon, shaded sticker",
    "a photo of an apple, a banana and the moon",
)
_TOKENS = {"v_prediction": 32}
_PNDM = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
_SCHEDULERS: dict[str, dict[str, Any]] = {
    "v_prediction": {
        "_class_name": "DDIMScheduler",
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "set_alpha_to_one": True,
        # Of no effect with trailing steps, but StableDiffusionPipeline warns of any other value.
        "steps_offset": 1,
        "timestep_spacing": "trailing",
    },
    # As shipped with Stable Diffusion 1.5: it states neither the prediction type nor the spacing.
    "epsilon": {"_class_name": "PNDMScheduler", **_PNDM},
    "sd2": {"_class_name": "DDIMScheduler", **_PNDM, "prediction_type": "v_prediction"},
    "bk_sdm": {"_class_name": "PNDMScheduler", **_PNDM},
    "turbo": {
        "_class_name": "EulerDiscreteScheduler",
        **_PNDM,
        "prediction_type": "epsilon",
        "timestep_spacing": "trailing",
    },
    "lcm": {"_class_name": "LCMScheduler", **_PNDM, "original_inference_steps": 50, "prediction_type": "epsilon"},
    "xl": {"_class_name": "EulerDiscreteScheduler", **_PNDM, "timestep_spacing": "leading"},
}
_UNETS: dict[str, dict[str, Any]] = {
    "sd2": {
        "use_linear_projection": True,
        "upcast_attention": True,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
    "bk_sdm": {"mid_block_type": None},
    "lcm": {"time_cond_proj_dim": 16},
    "xl": {
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 32,
        "transformer_layers_per_block": [1, 2],
        "cross_attention_dim": 2 * 32,
    },
}


def tiny_model(kind: Kind = "v_prediction") -> Path:
    """The diffusers folder of a tiny base model."""
    # The argument is passed by position, so that the default and the same kind spelled out share one folder.
    return _model(kind)


def tiny_bundle(kind: Kind = "v_prediction") -> Path:
    """The bundle of `tiny_model(kind)`, made by the real export."""
    return _bundle(kind)


def tiny_image_encoder() -> Path:
    """The folder of a tiny image encoder with random weights, as CLIP's are: `EMBEDDING` numbers a picture."""
    return _image_encoder()


def picture_model() -> Path:
    """`tiny_model()` with `tiny_image_encoder()` in it, as diffusers lays it out; its base id is the same."""
    return _picture_model()


def picture_bundle() -> Path:
    """The bundle of `picture_model()`, made by the real export."""
    return _picture_bundle()


def stickers_bundle() -> Path:
    """The bundle of the samples' base model, with slots for all layers: the demo's, if that has been made already."""
    return once("bundles/stickers", lambda folder: _export(STICKERS, folder, slots="all"))


def keep_stickers_bundle(made: Path) -> None:
    """Keep a copy of a bundle that the demo has made, for `stickers_bundle`."""
    once("bundles/stickers", lambda folder: shutil.copytree(made, folder))


def write_model(folder: Path, kind: Kind = "v_prediction", seed: int = 0) -> Path:
    """Write a new tiny base model into `folder`; another seed is another base model."""
    import diffusers
    import torch
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = _tokenizer(folder / "tokenizer", _TOKENS.get(kind, 77))
        parts: dict[str, Any] = {
            "vae": _autoencoder(attention=kind != "v_prediction"),
            "text_encoder": CLIPTextModel(_text_config(tokenizer)),
            "tokenizer": tokenizer,
            "unet": _unet(**_UNETS.get(kind, {})),
            "scheduler": scheduler(kind),
        }
        if kind == "xl":
            second = CLIPTextModelWithProjection(_text_config(tokenizer, hidden_act="gelu"))
            pipeline: Any = diffusers.StableDiffusionXLPipeline(
                **parts, text_encoder_2=second, tokenizer_2=tokenizer, add_watermarker=False
            )
        else:
            name = "LatentConsistencyModelPipeline" if kind == "lcm" else "StableDiffusionPipeline"
            pipeline = getattr(diffusers, name)(
                **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
            )
    pipeline.save_pretrained(folder)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(_SCHEDULERS[kind]), "utf-8")
    return folder


def write_preview(folder: Path) -> Path:
    """Write a tiny autoencoder for previews, as TAESD is, that decodes the latents of all these models."""
    import torch
    from diffusers import AutoencoderTiny

    with torch.random.fork_rng():
        torch.manual_seed(0)
        preview = AutoencoderTiny(
            latent_channels=LATENT_SHAPE[0],
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
        )
    preview.save_pretrained(folder)
    return folder


def write_image_encoder(folder: Path, **preprocessing: Any) -> Path:
    """Write a tiny image encoder that sees squares of 24 pixels; `preprocessing` changes its CLIPImageProcessor."""
    import torch
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=24,
        patch_size=8,
        projection_dim=EMBEDDING,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CLIPVisionModelWithProjection(config)
    network.save_pretrained(folder)
    usual = {"size": {"shortest_edge": 28}, "crop_size": {"height": 24, "width": 24}}
    CLIPImageProcessor(**(usual | preprocessing)).save_pretrained(folder)
    return folder


def scheduler(kind: Kind) -> Any:
    """The diffusers scheduler that the model of this kind carries."""
    import diffusers

    config = _SCHEDULERS[kind]
    return getattr(diffusers, config["_class_name"]).from_config(config)


def once(place: str, make: Callable[[Path], object]) -> Path:
    """The folder at this place of the session's, made by one process, for which the others wait.

    make: writes the folder that it is given, which is then renamed.
    """
    folder = _session_folder() / place
    folder.parent.mkdir(parents=True, exist_ok=True)
    with LockFile(folder.with_name(f"{folder.name}.lock"), f"Another process makes {folder}.", _PATIENCE):
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}.unfinished")
            make(unfinished)
            unfinished.rename(folder)
    return folder


@functools.cache
def _session_folder() -> Path:
    if SESSION in os.environ:
        return Path(os.environ[SESSION])
    folder = Path(tempfile.mkdtemp(prefix="impasto-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _model(kind: Kind) -> Path:
    return once(f"models/{kind}", lambda folder: write_model(folder, kind))


@functools.cache
def _bundle(kind: Kind) -> Path:
    preview = _preview() if kind in FAMILIES else None
    return once(
        f"bundles/{kind}", lambda folder: _export(tiny_model(kind), folder, preview=preview, step_reuse=kind == "sd2")
    )


@functools.cache
def _picture_bundle() -> Path:
    return once("bundles/pictures", lambda folder: _export(picture_model(), folder))


def _export(model: Path, folder: Path, **options: Any) -> None:
    """Make a bundle by the real export; what equal networks have been traced to before, it takes from there."""
    from export import export_model
    from tests.tracing import traced_once

    with traced_once():
        export_model(model, folder, verify=False, **options)


@functools.cache
def _picture_model() -> Path:
    return once("models/pictures", _write_picture_model)


def _write_picture_model(folder: Path) -> None:
    shutil.copytree(tiny_model(), folder)
    shutil.copytree(tiny_image_encoder(), folder / "image_encoder")
    (folder / "feature_extractor").mkdir()
    name = "preprocessor_config.json"
    (folder / "image_encoder" / name).rename(folder / "feature_extractor" / name)
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    index["image_encoder"] = ["transformers", "CLIPVisionModelWithProjection"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")


@functools.cache
def _image_encoder() -> Path:
    return once("models/image_encoder", write_image_encoder)


@functools.cache
def _preview() -> Path:
    return once("models/preview", write_preview)


def _tokenizer(folder: Path, max_tokens: int) -> CLIPTokenizer:
    """A CLIPTokenizer with every byte (inside and at the end of a word) and merges learned from a few sentences."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    trained.train_from_iterator(_CORPUS, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    trained.model.save(str(folder))
    learned = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    tokens = dict.fromkeys([*alphabet, *(f"{letter}</w>" for letter in alphabet), *(token for token, _ in learned)])
    vocabulary = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=max_tokens)


def _text_config(tokenizer: CLIPTokenizer, **changes: Any) -> CLIPTextConfig:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **changes,
    )


def _autoencoder(attention: bool) -> AutoencoderKL:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=LATENT_SHAPE[0],
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=IMAGE_SIZE,
        mid_block_add_attention=attention,
        scaling_factor=0.3,
    )


def _unet(**changes: Any) -> UNet2DConditionModel:
    from diffusers import UNet2DConditionModel

    usual: dict[str, Any] = {
        "sample_size": LATENT_SHAPE[1],
        "in_channels": LATENT_SHAPE[0],
        "out_channels": LATENT_SHAPE[0],
        "block_out_channels": (32, 64),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": WIDTH,
        # diffusers reads this as the number of heads of each level.
        "attention_head_dim": [2, 4],
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**(usual | changes))
