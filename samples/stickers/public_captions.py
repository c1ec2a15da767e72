"""The public captions of the stickers base model, of which its bundle's basis of prompt codes is made.

    python -m samples.stickers.public_captions      writes model/captions.txt, which the export reads

They name the styles that the base model knows, never a device's, and one in ten names none.
"""

from __future__ import annotations

from pathlib import Path

from samples.stickers import data
from samples.stickers.base_styles import BASE_STYLES
from samples.stickers.styles import plain_caption

FILE = Path(__file__).parent / "model" / "captions.txt"
COUNT = 1024
# Numbers without a common factor with those of subjects and wordings: neighbours in the list share neither.
_SUBJECT_STEP, _WORDING_STEP = 397, 53
_BARE = 10


def public_captions() -> list[str]:
    """The captions: subjects and wordings of base styles, each as often as the others."""
    subjects = sorted({sticker.subject for sticker in data.read()})
    wordings = [words for style in BASE_STYLES.values() for words in style.wordings]
    found = []
    for number in range(COUNT):
        subject = plain_caption(subjects[number * _SUBJECT_STEP % len(subjects)])
        words = wordings[number * _WORDING_STEP % len(wordings)]
        found.append(subject if number % _BARE == 0 else f"{words} of {subject}")
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    FILE.write_text("\n".join(public_captions()) + "\n", "utf-8")
