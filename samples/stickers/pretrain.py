"""Make the stickers base model: a 64 x 64 StableDiffusionPipeline small enough to live in a repository.

    npm install --prefix artwork @iconify-json/noto@1.2.9 @iconify-json/twemoji@1.2.5 \\
        @iconify-json/fxemoji@1.2.2 @iconify-json/emojione-monotone@1.2.1 emojibase-data@17.0.0
    python -m samples.stickers.pretrain artwork                      # everything; goes on where it was stopped
    python -m samples.stickers.pretrain artwork --unet-steps 60000   # the denoiser trained for longer

Checkpoints lie in the work folder. The finished model is written to `samples/stickers/model` at the end, and a sheet of
samples to the work folder. `samples.stickers.measuring` then judges the pictures and writes the figures into the model
card.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image, ImageDraw

from samples.stickers.base_styles import BASE_STYLES
from samples.stickers.judge import GUIDANCE
from samples.stickers.pretraining import autoencoder, captions, corpus, denoiser, text
from samples.stickers.pretraining.loop import last_row
from samples.stickers.styles import plain_caption

HERE = Path(__file__).parent
STAGES = ("autoencoder", "text", "denoiser")
SHEET_SUBJECTS = (
    "fox", "cat face", "red apple", "airplane", "pizza", "evergreen tree", "grinning face", "sailboat",
    "guitar", "umbrella", "hamburger", "owl", "locomotive", "castle", "soccer ball", "rose",
)  # fmt: skip


def pipeline(vae: AutoencoderKL, tokenizer: object, text_encoder: object, unet: object) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=denoiser.new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sheet(pipe: StableDiffusionPipeline, steps: int = 25) -> Image.Image:
    """A sheet of every base style, four to a line: its words, and four subjects that change from style to style."""
    side, each, line = 66, 4, 4
    styles = list(BASE_STYLES.values())
    prompts = [
        f"{style.words} of {plain_caption(SHEET_SUBJECTS[(each * at + number) % len(SHEET_SUBJECTS)])}"
        for at, style in enumerate(styles)
        for number in range(each)
    ]
    generators = [torch.Generator().manual_seed(1000 + i) for i in range(len(prompts))]
    pictures = [
        picture
        for at in range(0, len(prompts), 16)
        for picture in pipe(
            prompts[at : at + 16],
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            generator=generators[at : at + 16],
        ).images
    ]
    width, height = each * side + 10, side + 16
    page = Image.new("RGB", (line * width - 10, -(-len(styles) // line) * height), "white")
    pen = ImageDraw.Draw(page)
    for at, style in enumerate(styles):
        left, top = at % line * width, at // line * height
        pen.text((left + 1, top + 2), style.words, fill="black")
        for number, picture in enumerate(pictures[each * at : each * (at + 1)]):
            page.paste(picture, (left + number * side + 1, top + 15))
    return page


def main(
    artwork: Annotated[Path, typer.Argument(help="Folder in which npm installed the artwork packages.")],
    work: Annotated[Path, typer.Option(help="Folder of checkpoints and logs; a stopped run goes on from it.")] = Path(
        "out/pretrain"
    ),
    out: Annotated[Path, typer.Option(help="Where the finished pipeline goes.")] = HERE / "model",
    vae_steps: Annotated[int, typer.Option(help="Steps of 16 pictures for the autoencoder.")] = 3000,
    text_steps: Annotated[int, typer.Option(help="Steps of 128 captions for the text encoder's warm-up.")] = 800,
    unet_steps: Annotated[int, typer.Option(help="Steps of 32 pictures for the denoiser.")] = 44000,
    start_from: Annotated[
        Path | None,
        typer.Option(help="A pipeline made earlier: keep its autoencoder, train its text encoder and denoiser on."),
    ] = None,
) -> None:
    """Train the stickers base model, or go on training it."""
    work.mkdir(parents=True, exist_ok=True)
    rows, pictures = corpus.make(artwork, work)
    if start_from:
        earlier = StableDiffusionPipeline.from_pretrained(start_from, torch_dtype=torch.float32, safety_checker=None)
        tokenizer, vae, encoder, unet = earlier.tokenizer, earlier.vae, earlier.text_encoder, earlier.unet
        latents = autoencoder.encode_all(vae, pictures, work)
    else:
        tokenizer = captions.train_tokenizer(rows, work / "tokenizer")
        vae = autoencoder.train(pictures, work, vae_steps)
        latents = autoencoder.encode_all(vae, pictures, work)
        encoder = text.warm_up(tokenizer, rows, latents, work, text_steps)
        unet = denoiser.new_unet(latents.shape[1], latents.shape[2])
    unet, encoder = denoiser.train(unet, tokenizer, encoder, rows, latents, work, unet_steps)
    pipe = pipeline(vae, tokenizer, encoder, unet)
    pipe.set_progress_bar_config(disable=True)
    sheet(pipe).save(work / "sheet.png")
    facts = {
        "pictures": len(rows),
        "subjects": len({row.subject for row in rows}),
        "styles": len(BASE_STYLES),
        "vae_steps": vae_steps,
        "text_steps": text_steps,
        "unet_steps": unet_steps,
        "hours": sum(last_row(log)["seconds"] for stage in STAGES if (log := work / f"{stage}.jsonl").exists()) / 3600,
        "v_loss": last_row(work / "denoiser.jsonl")["v_loss"],
        "psnr": autoencoder.psnr(vae, autoencoder.to_unit(pictures[::40])),
        "history": "",
    }
    if start_from:
        before = json.loads((start_from / "trained.json").read_text("utf-8"))
        facts |= {"vae_steps": before["vae_steps"], "text_steps": before["text_steps"]}
        facts |= {key: facts[key] + before[key] for key in ("unet_steps", "hours")}
    pipe.to(torch.float16).save_pretrained(out)
    for config in out.glob("*/config.json"):
        # diffusers writes the folder that a network was loaded from.
        values = {key: value for key, value in json.loads(config.read_text("utf-8")).items() if key != "_name_or_path"}
        config.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    (out / "trained.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    typer.echo(f"Saved {out}; look at {work / 'sheet.png'}, then: python -m samples.stickers.measuring")


if __name__ == "__main__":
    typer.run(main)
