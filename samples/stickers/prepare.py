"""Render the stickers data set: emoji artwork of six styles, 64 x 64 on white, with captions.

    npm install --prefix artwork @iconify-json/noto@1.2.9 @iconify-json/twemoji@1.2.5 \\
        @iconify-json/fluent-emoji-flat@1.2.6 @iconify-json/fluent-emoji-high-contrast@1.2.6 \\
        @iconify-json/fluent-emoji@1.2.7 @iconify-json/emojione@1.2.3 emojibase-data@17.0.0
    python -m samples.stickers.prepare artwork

The result, `data/stickers.zip`, is a Hugging Face *imagefolder* in one archive: lossless WebP pictures and one
`metadata.jsonl` whose rows say `file_name`, `text`, `style`, `subject`, `group`, `subgroup`, `tags`, `split`.
The same input gives the same archive, byte for byte.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Annotated, Any

import resvg_py
import typer
from PIL import Image
from rich.progress import track

from samples.stickers.styles import STYLES, caption

SIZE = 64
SUPERSAMPLE = 4
GROUPS = ("smileys-emotion", "animals-nature", "food-drink", "travel-places", "activities", "objects")
# Clock faces look alike, and the zodiac-like "heart" and "emotion" marks are symbols.
LEFT_OUT_SUBGROUPS = ("time", "heart", "emotion")
HELD_OUT_EVERY = 6
ZIP_DATE = (2026, 1, 1, 0, 0, 0)


def icon_name(label: str) -> str:
    """The iconify name of a CLDR label: "cat face" -> "cat-face"."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower().replace("’", "").replace("'", "")).strip("-")


def subjects(artwork: Path) -> list[dict[str, Any]]:
    """The emoji that we draw, in Unicode order, with group, subgroup, tags and a split that the subject decides."""
    base = artwork / "node_modules" / "emojibase-data" / "en"
    messages = json.loads((base / "messages.json").read_text("utf-8"))
    groups = {g["order"]: g["key"] for g in messages["groups"]}
    # Two subgroups carry the order 46 in emojibase 17; the first one, food-marine, now belongs to animal-marine.
    subgroups = {g["order"]: g["key"] for g in messages["subgroups"]}
    rows = []
    for entry in json.loads((base / "data.json").read_text("utf-8")):
        group, subgroup = groups.get(entry.get("group")), subgroups.get(entry.get("subgroup"))
        if group in GROUPS and subgroup not in LEFT_OUT_SUBGROUPS:
            rows.append(
                {
                    "subject": entry["label"].replace("’", "'"),
                    "group": group,
                    "subgroup": subgroup,
                    "tags": entry.get("tags", []),
                    "order": entry["order"],
                }
            )
    rows.sort(key=lambda row: row["order"])
    return assign_split(rows)


def assign_split(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Hold out every sixth subject of each subgroup, in the order of a hash of its name: fixed and stratified."""
    by_subgroup: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_subgroup.setdefault(row["subgroup"], []).append(row)
    for members in by_subgroup.values():
        members.sort(key=lambda row: hashlib.sha256(row["subject"].encode()).hexdigest())
        for position, row in enumerate(members):
            row["split"] = "held-out" if position % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 else "train"
    return rows


def render(svg: str) -> Image.Image:
    """Draw an SVG at four times the size on white and shrink it."""
    data = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE * SUPERSAMPLE, height=SIZE * SUPERSAMPLE)
    drawing = Image.open(io.BytesIO(bytes(data))).convert("RGBA")
    page = Image.new("RGBA", drawing.size, "white")
    page.alpha_composite(drawing)
    return page.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def svg_of(icons: dict[str, Any], name: str) -> str | None:
    """The SVG text of an icon of an iconify set, or None when the set has no such icon."""
    icon = icons["icons"].get(name)
    if icon is None and name in icons.get("aliases", {}):
        icon = icons["icons"].get(icons["aliases"][name]["parent"])
    if icon is None:
        return None
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}" color="black">{icon["body"]}</svg>'
    )


def write_member(archive: zipfile.ZipFile, name: str, data: bytes, method: int) -> None:
    info = zipfile.ZipInfo(name, ZIP_DATE)
    info.external_attr = 0o644 << 16
    archive.writestr(info, data, compress_type=method)


def main(
    artwork: Annotated[Path, typer.Argument(help="Folder in which npm installed the artwork packages.")],
    out: Annotated[Path, typer.Option(help="Archive to write.")] = Path(__file__).parent / "data" / "stickers.zip",
) -> None:
    """Render the stickers data set from the artwork packages."""
    rows = subjects(artwork)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    lines = []
    with zipfile.ZipFile(part, "w") as archive:
        for style in STYLES.values():
            icons = json.loads(
                (artwork / "node_modules" / "@iconify-json" / style.package / "icons.json").read_text("utf-8")
            )
            for row in track(rows, description=f"{style.name:>14}"):
                name = icon_name(row["subject"])
                svg = svg_of(icons, name)
                if svg is None:
                    continue
                buffer = io.BytesIO()
                render(svg).save(buffer, "WEBP", lossless=True, quality=100, method=6)
                file_name = f"{style.name}/{name}.webp"
                write_member(archive, file_name, buffer.getvalue(), zipfile.ZIP_STORED)
                text = caption(style, row["subject"])
                lines.append({"file_name": file_name, "text": text, "style": style.name} | row)
        for line in lines:
            del line["order"]
        metadata = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_member(archive, "metadata.jsonl", metadata.encode(), zipfile.ZIP_DEFLATED)
    part.replace(out)
    typer.echo(f"{len(lines)} pictures, {out.stat().st_size / 2**20:.1f} MiB: {out}")


if __name__ == "__main__":
    typer.run(main)
