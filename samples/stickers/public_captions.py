"""The public captions of the stickers base model, of which its bundle's basis of prompt codes is made.

    python -m samples.stickers.public_captions      writes model/captions.txt, which the export reads

They name styles in words of which the base model knows no style, as a device's own words are, and never a device's. A
basis of words that it knows tells new ones apart far worse; one of unknown words shows both.
"""

from __future__ import annotations

from pathlib import Path

from samples.stickers import data
from samples.stickers.pretraining.captions import UNKNOWN
from samples.stickers.styles import plain_caption

FILE = Path(__file__).parent / "model" / "captions.txt"
STYLES, EACH = 200, 8
_WORDS = (1, 2, 2, 3)  # words of a style, in turns
# Numbers without a common factor with those of words and subjects, so that all are used.
_WORD_STEPS, _SUBJECT_STEP = (31, 57, 85), 397


def public_captions() -> list[list[str]]:
    """Return the captions, style by style: `EACH` subjects in each."""
    subjects = sorted({sticker.subject for sticker in data.read()})
    found = []
    for number in range(STYLES):
        steps = _WORD_STEPS[: _WORDS[number % len(_WORDS)]]
        words = " ".join(dict.fromkeys(UNKNOWN[number * step % len(UNKNOWN)] for step in steps))
        chosen = (subjects[(number * EACH + turn) * _SUBJECT_STEP % len(subjects)] for turn in range(EACH))
        found.append([f"{words} of {plain_caption(subject)}" for subject in chosen])
    return found


if __name__ == "__main__":
    FILE.write_text("\n\n".join("\n".join(style) for style in public_captions()) + "\n", "utf-8")
