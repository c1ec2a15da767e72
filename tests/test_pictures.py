from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from edge_sdk.errors import NoPictures, PictureError, PictureUnreadable
from edge_sdk.pictures import MAX_CAPTION, load_pictures


def write_picture(path: Path, color: object = "red", size: tuple[int, int] = (40, 30), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


def write_metadata(folder: Path, *rows: object) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def png_with_header_size(path: Path, width: int, height: int) -> None:
    """A few bytes that claim to be a picture of any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def test_metadata_names_the_pictures(tmp_path: Path) -> None:
    write_picture(tmp_path / "one.png", "red")
    write_picture(tmp_path / "more" / "two.jpg", "blue")
    write_picture(tmp_path / "not named.png")
    write_metadata(
        tmp_path,
        {"file_name": "more/two.jpg", "text": "  a blue\n card "},
        "",
        {"file_name": "one.png", "text": "a red card", "license": "CC0"},
    )
    pictures = load_pictures(tmp_path, 16)
    assert [(picture.path.name, picture.text) for picture in pictures] == [
        ("two.jpg", "a blue card"),
        ("one.png", "a red card"),
    ]
    assert all(picture.image.size == (16, 16) and picture.image.mode == "RGB" for picture in pictures)


def test_without_metadata_captions_lie_beside_the_pictures(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_picture(tmp_path / f"{name}.PNG")
        (tmp_path / f"{name}.txt").write_text(f"card {name}\n", encoding="utf-8")
    (tmp_path / "notes.md").write_text("no picture", encoding="utf-8")
    assert [picture.text for picture in load_pictures(str(tmp_path), 8)] == ["card a", "card b"]


def test_transparent_parts_become_white(tmp_path: Path) -> None:
    write_picture(tmp_path / "clear.png", (0, 0, 0, 0), mode="RGBA")
    (tmp_path / "clear.txt").write_text("nothing", encoding="utf-8")
    assert load_pictures(tmp_path, 8)[0].image.getcolors() == [(64, (255, 255, 255))]


def test_the_central_square_is_taken_the_right_way_up(tmp_path: Path) -> None:
    image = Image.new("RGB", (30, 10), "black")
    image.paste("white", (10, 0, 20, 5))
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    image.save(tmp_path / "photo.png", exif=exif)
    (tmp_path / "photo.txt").write_text("half white", encoding="utf-8")
    square = load_pictures(tmp_path, 10)[0].image
    assert square.getpixel((5, 1)) == (0, 0, 0)
    assert square.getpixel((5, 8)) == (255, 255, 255)


@pytest.mark.parametrize("missing", [True, False], ids=["no folder", "empty folder"])
def test_nothing_to_learn_from(tmp_path: Path, missing: bool) -> None:
    with pytest.raises(NoPictures, match=str(tmp_path)):
        load_pictures(tmp_path / "absent" if missing else tmp_path, 8)


def test_empty_metadata_is_an_empty_folder(tmp_path: Path) -> None:
    write_metadata(tmp_path, "")
    with pytest.raises(NoPictures):
        load_pictures(tmp_path, 8)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    (tmp_path / "broken.txt").write_text("broken", encoding="utf-8")
    with pytest.raises(PictureUnreadable, match=r"broken\.png cannot be decoded.*save it again"):
        load_pictures(tmp_path, 8)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".tif", ".bmp"])
def test_a_file_cut_short_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    Image.effect_noise((64, 64), 50).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "cut.txt").write_text("half a picture", encoding="utf-8")
    with pytest.raises(PictureUnreadable, match="cut"):
        load_pictures(tmp_path, 8)


@pytest.mark.parametrize("size", [(10_000, 10_000), (100_000, 100_000)], ids=["large", "bomb"])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, size: tuple[int, int]) -> None:
    png_with_header_size(tmp_path / "bomb.png", *size)
    (tmp_path / "bomb.txt").write_text("boom", encoding="utf-8")
    with pytest.raises(PictureUnreadable, match=r"bomb\.png"):
        load_pictures(tmp_path, 8)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "/etc/passwd",
        "sub/../../secret.png",
        "..\\secret.png",
        "C:\\secret.png",
        "link.png",
        "",
        "a\0b",
    ],
)
def test_files_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / "secret.png")
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    write_metadata(folder, {"file_name": name, "text": "a secret"})
    with pytest.raises(PictureError, match=r"line 1: .* lies outside the folder"):
        load_pictures(folder, 8)


def test_a_named_file_that_is_not_there(tmp_path: Path) -> None:
    write_metadata(tmp_path, {"file_name": "gone.png", "text": "gone"})
    with pytest.raises(PictureUnreadable, match=r"gone\.png does not exist"):
        load_pictures(tmp_path, 8)


@pytest.mark.parametrize(
    "row",
    [
        "not json",
        "[]",
        '{"text": "no file"}',
        '{"file_name": 3, "text": "x"}',
        '{"file_name": "a.png", "text": 3}',
        "[" * 9999,
    ],
)
def test_malformed_metadata_names_the_line(tmp_path: Path, row: str) -> None:
    write_picture(tmp_path / "a.png")
    write_metadata(tmp_path, {"file_name": "a.png", "text": "fine"}, row)
    with pytest.raises(PictureError, match="line 2"):
        load_pictures(tmp_path, 8)


@pytest.mark.parametrize("row", [{"file_name": "a.png"}, {"file_name": "a.png", "text": " "}])
def test_a_line_without_caption(tmp_path: Path, row: dict[str, str]) -> None:
    write_picture(tmp_path / "a.png")
    write_metadata(tmp_path, row)
    with pytest.raises(PictureError, match=r"a\.png has no caption"):
        load_pictures(tmp_path, 8)


@pytest.mark.parametrize("text", [None, "", "\n"])
def test_a_picture_without_caption_beside_it(tmp_path: Path, text: str | None) -> None:
    write_picture(tmp_path / "a.png")
    if text is not None:
        (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    with pytest.raises(PictureError, match=r"a\.png has no caption.*a\.txt"):
        load_pictures(tmp_path, 8)


def test_captions_are_utf8_and_of_reasonable_length(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(PictureError, match="UTF-8"):
        load_pictures(tmp_path, 8)
    (tmp_path / "a.txt").write_text("x" * (MAX_CAPTION + 1), encoding="utf-8")
    with pytest.raises(PictureError, match="shorten"):
        load_pictures(tmp_path, 8)
