"""The six styles of the stickers data and the words by which people ask for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """One artwork set.

    name: its folder in the archive; package: the npm package under @iconify-json; words: a person's words for the
    style; base: true if the base model is trained on it (the others belong to devices and are new to it).
    """

    name: str
    package: str
    words: str
    base: bool
    licence: str


STYLES = {
    style.name: style
    for style in (
        Style("soft", "noto", "soft sticker", True, "Apache-2.0"),
        Style("plain", "twemoji", "plain flat sticker", True, "CC BY 4.0"),
        Style("pastel", "fluent-emoji-flat", "bright paper cutout", False, "MIT"),
        Style("ink", "fluent-emoji-high-contrast", "black ink stamp", False, "MIT"),
        Style("clay", "fluent-emoji", "glossy clay figure", False, "MIT"),
        Style("retro", "emojione", "retro badge", False, "CC BY 4.0"),
    )
}


def caption(style: Style, subject: str) -> str:
    """Prompt for a picture in a style: "black ink stamp of a cat face"."""
    return f"{style.words} of {plain_caption(subject)}"


def plain_caption(subject: str) -> str:
    """Prompt for a picture without naming a style: "a cat face"."""
    return f"{'an' if subject[:1].lower() in 'aeiou' else 'a'} {subject}"
