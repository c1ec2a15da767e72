"""The pictures that the base model learns from: every subject in every base style, and in many pairs of styles.

They are rendered from the SVGs of the artwork packages at 256 x 256, drawn in their styles, shrunk to 64 x 64 and kept
in the work folder: `pictures.npy` (n, 64, 64, 3) uint8 and `pictures.jsonl`, a row for each. The judge learns from
these and from a second set, `devices.npy`, with the devices' styles, which the base model never sees.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import resvg_py
from PIL import Image
from rich.progress import track

from samples.stickers import prepare
from samples.stickers.base_styles import BASE_STYLES, combinations
from samples.stickers.drawing.canvas import LARGE, Canvas
from samples.stickers.styles import STYLES

# Artwork that drawn styles start from -> probability; glyphs have no colours to redraw.
SOURCES = {"soft": 0.4, "plain": 0.4, "friendly": 0.2}
PAIRS = 15_000
DEVICE_PAIRS = 6_000
BASE_PACKAGES = {name: style.package for name, style in BASE_STYLES.items() if style.package}
DEVICE_PACKAGES = {name: style.package for name, style in STYLES.items() if not style.base}


@dataclass(frozen=True)
class Drawn:
    """A row of the corpus. styles: one or two names, in the order in which they were drawn; source: the artwork."""

    styles: tuple[str, ...]
    source: str
    subject: str
    subgroup: str
    tags: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{'+'.join(self.styles)}/{self.subject}"


Plan = Callable[[Path], list[Drawn]]


class Artwork:
    """Artwork packages, as npm installs them. `packages`: style -> its package under @iconify-json."""

    def __init__(self, folder: Path, packages: Mapping[str, str]) -> None:
        self._icons: dict[str, dict[str, Any]] = {
            name: json.loads((folder / "node_modules" / "@iconify-json" / package / "icons.json").read_text("utf-8"))
            for name, package in packages.items()
        }
        base = json.loads((folder / "node_modules" / "emojibase-data" / "en" / "data.json").read_text("utf-8"))
        # Firefox's icons are named after their characters' Unicode names, letters only.
        self._unicode = {entry["label"].replace("’", "'"): _letters(entry["emoji"]) for entry in base}

    def svg(self, source: str, subject: str) -> str | None:
        """The SVG of a subject, or None if the artwork has none."""
        icons = self._icons[source]
        return prepare.svg_of(icons, prepare.icon_name(subject)) or prepare.svg_of(
            icons, self._unicode.get(subject, "")
        )

    def sources(self, subject: str) -> list[str]:
        return [name for name in self._icons if self.svg(name, subject)]


def _letters(emoji: str) -> str:
    name = unicodedata.name(emoji[0], "") if len(emoji.rstrip("\ufe0f")) == 1 else ""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def plan(artwork: Path, pairs: int = PAIRS, seed: int = 0) -> list[Drawn]:
    """The base model's rows, subject by subject: each style once, and `pairs` pairs spread over the subjects."""
    rows, works = prepare.subjects(artwork), Artwork(artwork, BASE_PACKAGES)
    rng = random.Random(seed)
    known = combinations()
    found = []
    for at, row in enumerate(rows):
        available = works.sources(row["subject"])
        weights = {name: weight for name, weight in SOURCES.items() if name in available}
        if not weights:
            continue
        asked: list[tuple[str, ...]] = [
            (name,) for name, style in BASE_STYLES.items() if style.draw is not None or name in available
        ]
        asked += [
            pair
            for pair in rng.sample(known, _part(pairs, at, len(rows)))
            if BASE_STYLES[pair[0]].draw or pair[0] in available
        ]
        for styles in asked:
            drawn_from = rng.choices(list(weights), list(weights.values()))[0]
            found.append(_row(row, styles, drawn_from if BASE_STYLES[styles[0]].draw else styles[0]))
    return found


def plan_devices(artwork: Path, pairs: int = DEVICE_PAIRS, seed: int = 1) -> list[Drawn]:
    """The judge's further rows: the devices' styles, and pairs of each with a drawn one."""
    rows, works = prepare.subjects(artwork), Artwork(artwork, DEVICE_PACKAGES)
    rng = random.Random(seed)
    drawn = [name for name, style in BASE_STYLES.items() if style.draw]
    found = []
    for at, row in enumerate(rows):
        available = works.sources(row["subject"])
        found += [_row(row, (source,), source) for source in available]
        for _ in range(_part(pairs, at, len(rows)) if available else 0):
            source = rng.choice(available)
            found.append(_row(row, (source, rng.choice(drawn)), source))
    return found


def _part(total: int, at: int, count: int) -> int:
    """Share of place `at` when `total` items are split among `count` places."""
    return total * (at + 1) // count - total * at // count


def _row(row: Mapping[str, Any], styles: tuple[str, ...], source: str) -> Drawn:
    return Drawn(styles, source, row["subject"], row["subgroup"], tuple(row["tags"]))


def draw(svg: str, styles: tuple[str, ...], seed: int) -> npt.NDArray[np.uint8]:
    """One picture, (64, 64, 3)."""
    effects = [style.draw for name in styles if (style := BASE_STYLES.get(name)) and style.draw]
    if not effects:
        return np.asarray(prepare.render(svg))
    data = resvg_py.svg_to_bytes(svg_string=svg, width=LARGE, height=LARGE)
    drawing = Image.open(io.BytesIO(bytes(data))).convert("RGBA")
    page = Image.new("RGBA", (LARGE, LARGE))
    # resvg keeps the proportions of a drawing that is not square.
    page.paste(drawing, ((LARGE - drawing.width) // 2, (LARGE - drawing.height) // 2))
    canvas, rng = Canvas.of(page), np.random.default_rng(seed)
    for effect in effects:
        canvas = effect(canvas, rng)
    return canvas.picture()


def _draw_all(artwork: Path, rows: list[Drawn]) -> list[npt.NDArray[np.uint8]]:
    sources = {row.source for row in rows}  # other packages need not be installed
    packages = {name: package for name, package in (BASE_PACKAGES | DEVICE_PACKAGES).items() if name in sources}
    works = Artwork(artwork, packages)
    pictures = []
    for row in rows:
        svg = works.svg(row.source, row.subject)
        assert svg is not None
        pictures.append(draw(svg, row.styles, int.from_bytes(hashlib.sha256(row.name.encode()).digest()[:6], "big")))
    return pictures


def make(artwork: Path, work: Path, what: Plan = plan) -> tuple[list[Drawn], npt.NDArray[np.uint8]]:
    """The corpus of a plan; drawn once, on all cores, then read from the work folder."""
    name = "pictures" if what is plan else "devices"
    pixels, index = work / f"{name}.npy", work / f"{name}.jsonl"
    if not index.exists():
        rows = what(artwork)
        parts = [rows[at : at + 500] for at in range(0, len(rows), 500)]
        work.mkdir(parents=True, exist_ok=True)
        pictures = np.lib.format.open_memmap(pixels, "w+", np.uint8, (len(rows), prepare.SIZE, prepare.SIZE, 3))
        with ProcessPoolExecutor() as pool:
            results = pool.map(_draw_all, [artwork] * len(parts), parts)
            for at, part in enumerate(track(results, description=name, total=len(parts))):
                pictures[at * 500 : at * 500 + len(part)] = np.stack(part)
        pictures.flush()
        text = "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
        index.with_suffix(".part").write_text(text, "utf-8")
        index.with_suffix(".part").replace(index)
    return list(read_rows(index)), np.load(pixels, mmap_mode="r")


def read_rows(index: Path) -> Iterator[Drawn]:
    for line in index.read_text("utf-8").split("\n"):
        if line:
            row = json.loads(line)
            yield Drawn(tuple(row["styles"]), row["source"], row["subject"], row["subgroup"], tuple(row["tags"]))
