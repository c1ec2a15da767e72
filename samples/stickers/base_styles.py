"""The styles that the base model knows: four artwork sets, and those that are drawn from them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from samples.stickers.drawing import media, places, tones
from samples.stickers.drawing.canvas import Canvas

Draw = Callable[[Canvas, np.random.Generator], Canvas]


@dataclass(frozen=True)
class BaseStyle:
    """A style and its wordings; sheets and measurements use the first.

    kind: "artwork" (a set as its artists drew it), "medium", "tone" or "place"; draw: its change of a canvas (None
    for artwork); package: the npm package under @iconify-json of an artwork set.
    """

    name: str
    kind: str
    wordings: tuple[str, ...]
    draw: Draw | None = None
    package: str = ""

    @property
    def words(self) -> str:
        return self.wordings[0]


# No wording has a word of the devices' styles (bright paper cutout, black ink stamp, glossy clay figure, retro badge).
BASE_STYLES = {
    style.name: style
    for style in (
        BaseStyle("soft", "artwork", ("soft sticker", "shaded sticker", "soft cartoon"), package="noto"),
        BaseStyle("plain", "artwork", ("plain flat sticker", "flat sticker", "flat vector"), package="twemoji"),
        BaseStyle("friendly", "artwork", ("friendly icon", "round friendly icon", "web icon"), package="fxemoji"),
        BaseStyle("glyph", "artwork", ("solid glyph", "one colour glyph", "pictogram"), package="emojione-monotone"),
        BaseStyle("lines", "medium", ("line art", "thin outlines", "colouring page"), media.line_art),
        BaseStyle("pencil", "medium", ("pencil sketch", "grey pencil drawing", "hatched sketch"), media.pencil),
        BaseStyle("pixel", "medium", ("pixel art", "8 bit sprite", "blocky pixels"), media.pixel_art),
        BaseStyle("halftone", "medium", ("halftone print", "newspaper dots", "halftone dots"), media.halftone),
        BaseStyle("blueprint", "medium", ("blueprint", "technical drawing", "white lines on blue"), media.blueprint),
        BaseStyle("neon", "medium", ("neon sign", "glowing neon tubes", "neon light"), media.neon),
        BaseStyle("watercolour", "medium", ("watercolour", "watercolour painting", "pale wash"), media.watercolour),
        BaseStyle("mosaic", "medium", ("mosaic", "tile mosaic", "square tiles"), media.mosaic),
        BaseStyle("crayon", "medium", ("crayon drawing", "wax crayon", "child's crayon"), media.crayon),
        BaseStyle("oil", "medium", ("oil painting", "thick brush strokes", "dabs of oil"), media.oil),
        BaseStyle("polygons", "medium", ("low poly", "polygons", "flat triangles"), media.low_poly),
        BaseStyle("glass", "medium", ("stained glass", "church window", "leaded glass"), media.stained_glass),
        BaseStyle("stitch", "medium", ("cross stitch", "embroidery", "stitched thread"), media.cross_stitch),
        BaseStyle("chalk", "medium", ("chalk drawing", "chalkboard", "chalk on a board"), media.chalk),
        BaseStyle("engraving", "medium", ("engraving", "etching", "old book print"), media.engraving),
        BaseStyle("balloon", "medium", ("puffy balloon", "inflated balloon", "shiny balloon"), media.balloon),
        BaseStyle("stone", "medium", ("stone carving", "carved relief", "grey stone"), media.stone),
        BaseStyle("knitted", "medium", ("knitted wool", "knitting", "woollen jumper"), media.knitted),
        BaseStyle("comic", "medium", ("comic with thick outlines", "thick outlines", "comic book"), media.bold_outline),
        BaseStyle("shadow", "medium", ("silhouette at sunset", "dark silhouette", "shadow play"), media.silhouette),
        BaseStyle("grey", "tone", ("grey photo", "greyscale", "colourless"), tones.grey),
        BaseStyle("sepia", "tone", ("sepia photo", "old brown photo", "sepia"), tones.sepia),
        BaseStyle("negative", "tone", ("negative", "inverted colours", "film negative"), tones.negative),
        BaseStyle("thermal", "tone", ("thermal image", "heat camera", "infrared"), tones.thermal),
        BaseStyle("violet", "tone", ("violet and yellow duotone", "violet duotone", "purple and yellow"),
                  tones.violet_and_yellow),
        BaseStyle("teal", "tone", ("teal and orange duotone", "teal duotone", "orange and teal"),
                  tones.teal_and_orange),
        BaseStyle("night", "tone", ("night scene", "moonlight", "starry night"), tones.night),
        BaseStyle("gold", "tone", ("gold relief", "golden", "cast in gold"), tones.gold),
        BaseStyle("poster", "tone", ("pop art poster", "pop art", "screaming poster"), tones.poster),
        BaseStyle("anaglyph", "tone", ("anaglyph", "red and cyan shift", "3d glasses picture"), tones.anaglyph),
        BaseStyle("faded", "tone", ("faded print", "faded colours", "sun bleached"), tones.faded),
        BaseStyle("meadow", "place", ("meadow scene", "on a green meadow", "grass and blue sky"), places.meadow),
        BaseStyle("stripes", "place", ("striped wallpaper", "red stripes", "on slanted stripes"), places.stripes),
        BaseStyle("dots", "place", ("polka dot wallpaper", "polka dots", "on turquoise dots"), places.polka_dots),
        BaseStyle("card", "place", ("sticker on card", "on brown card", "cardboard scene"), places.on_card),
        BaseStyle("sunburst", "place", ("sunburst", "sun rays", "before orange rays"), places.sunburst),
        BaseStyle("water", "place", ("underwater scene", "under water", "deep sea"), places.under_water),
    )
}  # fmt: skip

# One of each kind, in the order in which they are applied.
ORDER = ("artwork", "medium", "tone", "place")
# Styles without colours: grey does not change them.
COLOURLESS = ("glyph", "lines", "pencil", "halftone", "engraving", "stone")
# Styles that fill the picture, so that no place can be seen behind them.
FILLING = ("glass", "shadow")


def combine(one: str, other: str) -> bool:
    """True if the two styles can be seen in one picture."""
    first, second = BASE_STYLES[one], BASE_STYLES[other]
    colourless = {one, other} & set(COLOURLESS) and "grey" in (one, other)
    hidden = {one, other} & set(FILLING) and "place" in (first.kind, second.kind)
    return first.kind != second.kind and not colourless and not hidden


def combinations() -> list[tuple[str, str]]:
    """All pairs of styles that can be seen in one picture, in the order in which they are drawn."""
    ordered = sorted(BASE_STYLES, key=lambda name: ORDER.index(BASE_STYLES[name].kind))
    return [(a, b) for at, a in enumerate(ordered) for b in ordered[at + 1 :] if combine(a, b)]


def wording(name: str, rng: random.Random) -> str:
    """One of a style's wordings; half the time the first."""
    words = BASE_STYLES[name].wordings
    return words[0] if rng.random() < 0.5 else rng.choice(words[1:])
