"""Public captions, of which a bundle's public basis is made: what people may write about any picture.

They are a grammar's, so that nobody's captions are in them: every subject in as many styles as every other. A base
model with words of its own brings its own captions, in the file `CAPTIONS_FILE` beside its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_sdk.errors import ExportError
from edge_sdk.privacy import FEWEST_PUBLIC
from export.lines import read_lines

CAPTIONS_FILE = "captions.txt"
_SUBJECTS = (
    "an old man", "a young woman", "a child", "a baby", "a crowd of people", "a dancer", "a soldier", "a king",
    "a cat", "a dog", "a horse", "a cow", "a lion", "an elephant", "a fox", "a rabbit",
    "a bird", "an owl", "a chicken", "a fish", "a whale", "a snake", "a butterfly", "a spider",
    "a tree", "a forest", "a flower", "a bunch of roses", "a mushroom", "a mountain", "a lake", "the sea",
    "a beach", "a desert", "the night sky", "the moon", "a sunset", "rain in a street", "a snowy field", "a storm",
    "a house", "a castle", "a church", "a bridge", "a city", "a village", "a kitchen", "an empty room",
    "a car", "a bicycle", "a train", "a sailing boat", "an aeroplane", "a robot", "a spaceship", "a clock",
    "an apple", "a loaf of bread", "a cup of coffee", "a birthday cake", "a guitar", "a book", "a chair", "a dragon",
)  # fmt: skip
_STYLES = (
    "a photo of {}", "a black and white photo of {}", "a blurry snapshot of {}", "a portrait of {}, studio light",
    "an oil painting of {}", "a watercolour of {}", "a pencil sketch of {}", "a charcoal drawing of {}",
    "an ink drawing of {}", "a woodcut of {}", "a stained glass window with {}", "a mosaic of {}",
    "a cartoon of {}", "a comic book panel with {}", "an anime picture of {}", "a children's book illustration of {}",
    "pixel art of {}", "a low poly render of {}", "a 3d render of {}", "a clay figure of {}",
    "a flat icon of {}", "a sticker of {}", "a line drawing of {}", "a vintage poster of {}",
    "{}, cyberpunk, neon light", "{}, art deco", "{}, surreal, dreamlike", "{}, minimalist",
    "{}, close-up", "{}, seen from above", "{}, in the fog", "{}",
)  # fmt: skip
_EACH = 8  # captions of every subject


def public_captions() -> list[str]:
    """Return the captions of the grammar: eight of every subject, sixteen in every style."""
    return [
        _STYLES[(number + turn * len(_STYLES) // _EACH + turn) % len(_STYLES)].format(subject)
        for number, subject in enumerate(_SUBJECTS)
        for turn in range(_EACH)
    ]


def captions_for(model: Path) -> list[str]:
    """Return the public captions for a base model: its own, in the file `CAPTIONS_FILE`, or else the grammar's.

    Raises:
        ExportError: its file cannot be read, or has too few different captions.
    """
    own = model / CAPTIONS_FILE
    return read_captions(own) if own.is_file() else public_captions()


def read_captions(path: Path) -> list[str]:
    """Return the different captions of a text file, one a line, in their order; empty lines are skipped.

    Raises:
        ExportError: the file cannot be read, or has fewer than `FEWEST_PUBLIC` different captions.
    """
    try:
        captions = list(dict.fromkeys(read_lines(path)))
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"The captions in {path} cannot be read ({error}): give a UTF-8 text file.") from error
    check_captions(captions, str(path))
    return captions


def check_captions(captions: Sequence[str], where: str) -> None:
    """Raise ExportError unless there are at least `FEWEST_PUBLIC` different captions."""
    if len(set(captions)) < FEWEST_PUBLIC:
        raise ExportError(
            f"{where} has {len(set(captions))} different captions, too few for a basis of prompt codes: write one a "
            f"line, at least {FEWEST_PUBLIC}, better 500, of the kind that people write. They become public: never "
            "those of a device's owner."
        )
