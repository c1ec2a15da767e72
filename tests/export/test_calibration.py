"""Prompts to calibrate with, and what is recorded of the drawings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.errors import CalibrationError
from export.precision import FEWEST_PROMPTS, PROMPTS, Feeds, check_prompts, read_feed, read_prompts, record
from tests.models import LATENT_SHAPE, WIDTH, tiny_bundle


def test_prompts_are_read_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a fox\n\n  an owl \na cat\r\nein Bär\n", "utf-8")
    assert read_prompts(tmp_path / "prompts.txt") == ["a fox", "an owl", "a cat", "ein Bär"]
    check_prompts(PROMPTS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: write one prompt a line"),
        (b" \n\n", "is empty"),
        (b"a fox\nan owl\n", "2 different prompts are too few"),
        (b"a fox\n" * 10, "1 different prompts are too few"),
        (b"a f\xffx\n", "UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_prompts_that_cannot_be_used(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "prompts.txt").write_bytes(content)
    with pytest.raises(CalibrationError, match=message):
        read_prompts(tmp_path / "prompts.txt")


def test_a_recording_covers_the_whole_way_with_guidance_pairs(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    made = record(
        tiny_bundle(), tmp_path, PROMPTS[:4], pictures=6, steps=6, on_progress=lambda *step: told.append(step)
    )
    assert told == [(done, 6) for done in range(1, 7)]
    assert {stage: len(files) for stage, files in made.items()} == {"text_encoder": 6, "unet": 12, "vae_decoder": 6}
    feeds = [read_feed(file) for file in made["unet"]]
    # Three pictures in a row keep different steps: all six are there, and each twice.
    timesteps = [float(feed["timestep"][0]) for feed in feeds]
    assert len(set(timesteps)) == 6
    assert max(timesteps) > 900 > 200 > min(timesteps)
    for feed in feeds:
        assert feed["sample"].shape == (2, *LATENT_SHAPE)
        assert feed["encoder_hidden_states"].shape == (2, 32, WIDTH)
        assert not np.array_equal(*feed["encoder_hidden_states"])
    assert len({feed["sample"].tobytes() for feed in feeds}) == len(feeds)


def test_feeds_are_read_one_by_one_and_in_ranges(tmp_path: Path) -> None:
    files = []
    for number in range(5):
        files.append(tmp_path / f"{number}.npz")
        np.savez(files[-1], x=np.full(2, number, np.float32))
    feeds = Feeds(files)
    assert len(feeds) == 5
    assert [int(feed["x"][0]) for feed in feeds] == [0, 1, 2, 3, 4]
    assert feeds.get_next() is None
    feeds.set_range(1, 3)
    assert [int(feed["x"][0]) for feed in feeds] == [1, 2]


def test_too_few_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="too few"):
        record(tiny_bundle(), tmp_path, PROMPTS[: FEWEST_PROMPTS - 1])
    assert not any(tmp_path.iterdir())
