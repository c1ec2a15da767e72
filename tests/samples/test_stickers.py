"""The stickers data, the judge and the base model are what their cards say."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samples.stickers import data
from samples.stickers.base_styles import BASE_STYLES
from samples.stickers.card import bars
from samples.stickers.judge import CARD, FOLDER, Judge, held_out
from samples.stickers.styles import STYLES

MODEL_FOLDER = Path(data.__file__).parent / "model"
MIB = 2**20


@pytest.fixture(scope="module")
def stickers() -> list[data.Sticker]:
    return data.read()


def test_every_style_has_its_subjects(stickers: list[data.Sticker]) -> None:
    counts = {style: sum(s.style == style for s in stickers) for style in STYLES}
    assert all(700 <= count <= 1031 for count in counts.values()), counts
    assert sum(counts.values()) == len(stickers) == len({s.file_name for s in stickers})


def test_the_archive_is_small_and_its_pictures_are_64_by_64_on_white(stickers: list[data.Sticker]) -> None:
    assert data.ARCHIVE.stat().st_size <= 14 * MIB
    pixels = data.pictures(stickers[::100])
    assert pixels.shape[1:] == (64, 64, 3)
    corners = pixels[:, ::63, ::63].reshape(len(pixels), -1)
    assert (corners > 240).all(axis=1).mean() > 0.5


def test_the_split_is_by_subject_and_stratified(stickers: list[data.Sticker]) -> None:
    splits = defaultdict(set)
    for sticker in stickers:
        splits[sticker.subject].add(sticker.split)
    assert all(len(split) == 1 for split in splits.values())
    share = np.mean([sticker.split == "held-out" for sticker in stickers])
    assert 0.12 < share < 0.18


def test_the_split_is_the_one_that_prepare_makes(stickers: list[data.Sticker]) -> None:
    from samples.stickers.prepare import assign_split

    rows = {s.subject: {"subject": s.subject, "subgroup": s.subgroup} for s in stickers}
    # Subjects that no style could draw took part in the split, so that only drawn ones can be compared: none of
    # the first five of a subgroup can be held out.
    made = {row["subject"]: row["split"] for row in assign_split(list(rows.values()))}
    said = {s.subject: s.split for s in stickers}
    assert np.mean([made[subject] == said[subject] for subject in said]) > 0.9


def test_captions_say_style_and_subject(stickers: list[data.Sticker]) -> None:
    for sticker in random.Random(0).sample(stickers, 50):
        assert sticker.text.startswith(STYLES[sticker.style].words)
        assert sticker.text.endswith(sticker.subject)


def test_the_judge_is_as_good_as_its_card_says(stickers: list[data.Sticker]) -> None:
    """Of the styles that are in the archive; the others' pictures are not shipped."""
    card = json.loads((FOLDER / CARD).read_text("utf-8"))
    assert sum(file.stat().st_size for file in FOLDER.glob("*.onnx")) <= 4_000_000
    assert set(STYLES) | set(BASE_STYLES) == set(card["styles"])
    real = card["held_out"]["real"]
    assert real["devices"]["both_hit"] >= 0.85
    assert real["base"]["both_hit"] >= 0.85
    # Of many pairs one style hides most of the other: stone leaves no colour for sepia to change.
    assert real["pairs"]["styles_hit"] >= 0.55
    unseen = [s for s in stickers if held_out(f"{s.style}/{s.subject}") and not STYLES[s.style].base]
    verdict = Judge().score(
        [Image.fromarray(pixels) for pixels in data.pictures(unseen)], [(s.style, s.subgroup) for s in unseen]
    )
    for what in ("style_hit", "subject_hit", "both_hit"):
        assert getattr(verdict, what) == pytest.approx(real["devices"][what], abs=0.03)


def test_the_judge_tells_what_is_wrong(stickers: list[data.Sticker]) -> None:
    ink = [s for s in stickers if s.style == "ink"][:20]
    pictures = [Image.fromarray(pixels) for pixels in data.pictures(ink)]
    assert Judge().score(pictures, [("clay", "no such subgroup")] * 20).subject_hit == 0
    assert Judge().score(pictures, [("clay", s.subgroup) for s in ink]).style_hit <= 0.1


def test_the_base_model_is_small_and_a_plain_pipeline_loads_it() -> None:
    from diffusers import DiffusionPipeline, StableDiffusionPipeline

    size = sum(file.stat().st_size for file in MODEL_FOLDER.rglob("*") if file.is_file())
    assert size <= 35 * 10**6
    pipe = DiffusionPipeline.from_pretrained(MODEL_FOLDER)
    assert isinstance(pipe, StableDiffusionPipeline)
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    pipe.set_progress_bar_config(disable=True)
    picture = pipe("soft sticker of a red apple", num_inference_steps=2).images[0]
    assert picture.size == (64, 64)


def test_the_card_says_what_was_measured() -> None:
    """The figures of `samples.stickers.measuring`, which the card shows, are of this judge and these weights."""
    measured = json.loads((MODEL_FOLDER / "measured.json").read_text("utf-8"))
    assert (measured["captions"], measured["steps"]) == (200, 25)
    trained = json.loads((MODEL_FOLDER / "trained.json").read_text("utf-8"))
    assert {key: measured[key] for key in trained} == trained
    card, judge = (MODEL_FOLDER / "README.md").read_text("utf-8"), json.loads((FOLDER / CARD).read_text("utf-8"))
    real = judge["held_out"]["real"]
    assert measured["bars"] == [{**asdict(bar), "holds": bar.holds} for bar in bars(measured, real)]
    shares = [*measured["known"].values(), *measured["pairs"].values(), *measured["unheard"].values()]
    for share in (*shares, *real["base"].values(), *real["pairs"].values()):
        assert f"{share:.1%}" in card
    assert all(style.words in card for style in BASE_STYLES.values())


def test_a_judges_training_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from samples.stickers import judging

    monkeypatch.setattr(judging, "SAVED_EVERY", 2)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (128, 16, 16, 3), np.uint8)
    targets = {name: np.eye(4, dtype=np.float32)[rng.integers(4, size=128)] for name in ("style", "subgroup")}
    checkpoint = tmp_path / "shallow.checkpoint"

    def fit() -> dict[str, torch.Tensor]:
        net = judging.fit("shallow", targets, pictures, pictures, np.ones(128), 2, 0, checkpoint)
        return dict(net.state_dict())

    whole, augment = fit(), judging.augment
    assert not checkpoint.exists()
    steps = iter(range(3))

    def until_stopped(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return augment(x, generator)

    monkeypatch.setattr(judging, "augment", until_stopped)
    with pytest.raises(KeyboardInterrupt):
        fit()
    monkeypatch.setattr(judging, "augment", augment)
    assert checkpoint.exists()
    resumed = fit()
    for name, weights in whole.items():
        assert torch.equal(resumed[name], weights), name
