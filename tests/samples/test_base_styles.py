"""The styles that the base model learns: what is drawn, what captions say, and what they never say."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from samples.stickers.base_styles import BASE_STYLES, ORDER, combinations
from samples.stickers.pretraining.captions import UNKNOWN, Captions
from samples.stickers.pretraining.corpus import BASE_PACKAGES, Drawn, draw, make
from samples.stickers.styles import STYLES

DRAWN = [name for name, style in BASE_STYLES.items() if style.draw]
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><circle cx="32" cy="32" r="26" fill="#f5a623"/>'
    '<circle cx="24" cy="26" r="5" fill="#222"/><path d="M18 40h28v6H18z" fill="#b00020"/></svg>'
)
DEVICE_WORDS = {word for style in STYLES.values() if not style.base for word in style.words.split()}


def row(*styles: str, subject: str = "fox", tags: tuple[str, ...] = ()) -> Drawn:
    return Drawn(styles, "soft", subject, "animal-mammal", tags)


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawn_style_changes_the_picture_and_repeats_itself(name: str) -> None:
    plain, picture = draw(SVG, ("soft",), 0), draw(SVG, (name,), 7)
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - plain).mean() > 3
    np.testing.assert_array_equal(picture, draw(SVG, (name,), 7))


def test_no_two_drawn_styles_look_alike() -> None:
    pictures = np.stack([draw(SVG, (name,), 7).astype(np.float32) for name in DRAWN])
    apart = np.abs(pictures[:, None] - pictures[None]).mean(axis=(2, 3, 4))
    assert (apart + 100 * np.eye(len(DRAWN))).min() > 5


DRAWN_PAIRS = [pair for pair in combinations() if set(pair) <= set(DRAWN)]


@pytest.mark.parametrize("pair", random.Random(0).sample(DRAWN_PAIRS, 40))
def test_a_pair_shows_something_of_both(pair: tuple[str, str]) -> None:
    picture = draw(SVG, pair, 7).astype(int)
    for name in pair:
        assert np.abs(picture - draw(SVG, (name,), 7)).mean() > 2, name


def test_a_pair_is_drawn_in_the_order_of_its_kinds() -> None:
    for first, second in combinations():
        assert ORDER.index(BASE_STYLES[first].kind) < ORDER.index(BASE_STYLES[second].kind)
    assert {name for pair in combinations() for name in pair} == set(BASE_STYLES)


def test_a_drawing_that_is_not_square_keeps_its_proportions() -> None:
    tall = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 128"><circle cx="32" cy="64" r="30"/></svg>'
    picture = draw(tall, ("grey",), 0)
    dark = (picture < 200).any(axis=2)
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 3


def test_the_base_models_corpus_needs_no_artwork_of_the_devices(tmp_path: Path) -> None:
    """The packages that `samples.stickers.pretrain` names are enough."""
    body = '<circle cx="8" cy="8" r="6" fill="#d33"/>'
    for package in BASE_PACKAGES.values():
        icons = tmp_path / "node_modules" / "@iconify-json" / package / "icons.json"
        icons.parent.mkdir(parents=True)
        icons.write_text(json.dumps({"icons": {"fox": {"body": body}}}), "utf-8")
    base = tmp_path / "node_modules" / "emojibase-data" / "en" / "data.json"
    base.parent.mkdir(parents=True)
    base.write_text(json.dumps([{"label": "fox", "emoji": "\U0001f98a"}]), "utf-8")
    planned = [Drawn((name,), name, "fox", "animal-mammal", ()) for name in ("plain", "soft")]
    rows, pictures = make(tmp_path, tmp_path / "work", lambda artwork: planned)
    assert [one.styles for one in rows] == [("plain",), ("soft",)]
    assert pictures.shape == (2, 64, 64, 3)
    assert int(pictures.min()) < 100


def test_no_wording_has_a_word_of_the_devices() -> None:
    wordings = [words for style in BASE_STYLES.values() for words in style.wordings]
    assert len(wordings) == len(set(wordings))
    assert all(len(style.wordings) >= 3 for style in BASE_STYLES.values())
    assert not DEVICE_WORDS & {word for words in (*wordings, *UNKNOWN) for word in words.split()}


def test_captions_name_styles_leave_them_out_and_use_unknown_words() -> None:
    rows = [row("pixel", "meadow", tags=("animal", "paper")), row("neon", subject="ink bottle")]
    captions, rng = Captions(rows), random.Random(0)
    said = Counter[str]()
    for _ in range(4000):
        text = captions.variant(rows[0], rng)
        known = [any(words in text for words in BASE_STYLES[name].wordings) for name in rows[0].styles]
        said["empty" if not text else f"{sum(known)} styles"] += 1
        assert not text or "fox" in text
    shares = {kind: count / 4000 for kind, count in said.items()}
    assert shares["empty"] == pytest.approx(0.10, abs=0.02)
    assert shares["2 styles"] == pytest.approx(0.65 * 0.85, abs=0.03)
    assert shares["1 styles"] == pytest.approx(0.65 * 0.15, abs=0.02)
    assert shares["0 styles"] == pytest.approx(0.25, abs=0.03)


def test_unknown_words_are_never_those_of_the_devices() -> None:
    captions, rng = (
        Captions([row("neon", subject="ink bottle", tags=("black", "paper", "badge", "jar", "pen"))]),
        random.Random(1),
    )
    words = {word for _ in range(3000) for word in captions.unknown_words(rng).split()}
    assert {"bottle", "jar"} <= words
    assert not DEVICE_WORDS & words
