"""Public captions, of which a bundle's public basis is made: what people may write about any picture.

They come style by style, as the basis is made of what tells styles apart. They are a grammar's, so that nobody's
captions are in them: every subject in as many styles as every other. A base model with words of its own brings its own
captions, in the file `CAPTIONS_FILE` beside its weights: one a line, those of a style together, an empty line between
styles.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_sdk.errors import ExportError
from edge_sdk.privacy import FEWEST_STYLES
from export.lines import read_blocks

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
# A style has the subjects whose numbers are so far from its own: scattered, so that no two styles have the same.
_APART = frozenset(5 * turn % len(_STYLES) for turn in range(8))


def public_captions() -> list[list[str]]:
    """Return the captions of the grammar, style by style: sixteen in every style, eight of every subject."""
    return [
        [style.format(subject) for at, subject in enumerate(_SUBJECTS) if (number - at) % len(_STYLES) in _APART]
        for number, style in enumerate(_STYLES)
    ]


def captions_for(model: Path) -> list[list[str]]:
    """Return the public captions for a base model: its own, in the file `CAPTIONS_FILE`, or else the grammar's.

    Raises:
        ExportError: its file cannot be read, or has too few styles or captions.
    """
    own = model / CAPTIONS_FILE
    return read_captions(own) if own.is_file() else public_captions()


def read_captions(path: Path) -> list[list[str]]:
    """Return the captions of a text file, style by style, see above.

    Raises:
        ExportError: the file cannot be read, or has too few styles or captions.
    """
    try:
        captions = read_blocks(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"The captions in {path} cannot be read ({error}): give a UTF-8 text file.") from error
    return checked_captions(captions, str(path))


def checked_captions(captions: Sequence[Sequence[str]], where: str) -> list[list[str]]:
    """Return the different captions of each style.

    Raises:
        ExportError: there are fewer than `FEWEST_STYLES` styles, or a style has a single caption.
    """
    styles = [list(dict.fromkeys(style)) for style in captions]
    few = sum(len(style) < 2 for style in styles)
    if few or len(styles) < FEWEST_STYLES:
        raise ExportError(
            f"{where} has {len(styles)} styles of captions, {few} of them with fewer than two different ones: too few "
            "for a basis of prompt codes. Write one caption a line, those of a style together, an empty line between "
            f"styles: at least {FEWEST_STYLES} styles, better 200, in each eight captions with different subjects, of "
            "the kind that people write. They become public: never those of a device's owner."
        )
    return styles
