"""Prior pictures: drawings of the base model itself, by which a guard sees what a training makes it forget.

They are drawn once, of common things that no owner has to have pictures of, and kept in the device's home.
"""

from __future__ import annotations

import time
from pathlib import Path

from edge_sdk import durable
from edge_sdk.errors import ImpastoError, PictureError
from edge_sdk.inference import Generator
from edge_sdk.pictures import Picture, open_picture, save_picture

CAPTIONS = ("a cat", "a house", "a car", "a tree", "a boat", "a flower", "a cup", "a guitar")

# File with the seconds in which the next picture could not be drawn.
_SLOW = "too-slow.txt"


class PriorNotDrawn(UserWarning):
    """A device cannot draw prior pictures: a guard looks at held-out pictures alone, if there are any."""

    def __init__(self, error: ImpastoError) -> None:
        super().__init__(f"No prior pictures are drawn, so that the guard cannot see a drift from them: {error}")


def prior_pictures(generator: Generator, folder: Path, seconds: float) -> list[Picture]:
    """The prior pictures of a base model, as many as there is time for; those that are missing are drawn.

    Picture i has always the same caption and seed.

    Args:
        generator: draws with the base model alone.
        folder: where they are kept, in a folder for each base model.
        seconds: longest time to draw in. A picture that takes longer is given up, and begun again by a later call only
            if that has more time for it; one that would not be done in the rest of the time is left to a later call.

    Raises:
        OSError: a picture cannot be written.
    """
    own = folder / generator.base_id[:16]
    slow = own / _SLOW
    end = time.monotonic() + (seconds if seconds > _read_seconds(slow) else 0.0)
    took = 0.0  # seconds of the last drawing

    def in_time(step: int, steps: int, latents: object) -> bool:
        return time.monotonic() < end

    found = []
    for number, caption in enumerate(CAPTIONS):
        file = own / f"{number:02d}.png"
        image = None
        if file.exists():
            try:
                image = open_picture(file)
            except PictureError:
                file.unlink()
        if image is None:
            began = time.monotonic()
            left = end - began
            if left <= 0 or took > left:
                break
            drawn = generator.generate(caption, seed=number, on_step=in_time)
            durable.private_folder(own)
            if not drawn:
                slow.write_text(f"{left}\n", "utf-8")
                break
            image, took = drawn[0], time.monotonic() - began
            save_picture(image, file)
        found.append(Picture(image, caption, file))
    return found


def _read_seconds(file: Path) -> float:
    try:
        return float(file.read_text("utf-8"))
    except (OSError, ValueError):
        return 0.0
