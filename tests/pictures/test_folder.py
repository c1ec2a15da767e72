from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from edge_sdk.errors import NoPictures, PictureError, PictureUnreadable
from edge_sdk.pictures import MAX_CAPTION, PictureLeftOut, list_pictures, load_pictures


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
    with pytest.raises(PictureUnreadable, match=r"bomb\.png has .*pixels.*Scale it down"):
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


def captioned(path: Path, text: str, color: str = "red", suffix: str = ".txt") -> Path:
    write_picture(path, color)
    path.with_suffix(suffix).write_text(text, encoding="utf-8")
    return path


def captions(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): text for path, text in list_pictures(folder)}


# --- captions -------------------------------------------------------------------------------------------------------


def test_captions_may_hold_any_line_separator_of_unicode(tmp_path: Path) -> None:
    """Inside a JSON string U+2028 is allowed as it is, and str.splitlines would break the line there."""
    text = "a fox\u2028in\u0085the\u2029snow\x0b!"
    write_picture(tmp_path / "a.png")
    row = json.dumps({"file_name": "a.png", "text": text}, ensure_ascii=False).replace("\\u000b", "\x0b")
    (tmp_path / "metadata.jsonl").write_text(row.replace("\x0b", "\\u000b") + "\n", encoding="utf-8")
    assert captions(tmp_path) == {"a.png": "a fox in the snow !"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks_are_no_part_of_captions(tmp_path: Path, end: str, mark: str) -> None:
    for name in ("a", "b"):
        write_picture(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_bytes(f"{mark}a fox{end}in snow{end}".encode())
    assert captions(tmp_path) == {"a.png": "a fox in snow", "b.png": "a fox in snow"}
    rows = [json.dumps({"file_name": f"{name}.png", "text": name}) for name in ("a", "b")]
    (tmp_path / "metadata.jsonl").write_bytes((mark + end.join(rows) + end).encode())
    assert captions(tmp_path) == {"a.png": "a", "b.png": "b"}
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "metadata.csv").write_bytes((mark + end.join(["file_name,text", "a.png,x", '"b.png","y, z"'])).encode())
    assert captions(tmp_path) == {"a.png": "x", "b.png": "y, z"}


@pytest.mark.parametrize("content", ["füchse".encode("latin-1"), "fox".encode("utf-16"), "fox".encode("utf-16-le")])
def test_captions_that_are_not_utf8_are_named(tmp_path: Path, content: bytes) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(PictureError, match=r"a\.txt.* UTF-8 text.*Save it as UTF-8"):
        load_pictures(tmp_path, 8)


def test_the_caption_files_of_other_trainers(tmp_path: Path) -> None:
    captioned(tmp_path / "a.png", "a fox", suffix=".caption")
    captioned(tmp_path / "b.png", "a hen", suffix=".TXT")
    assert captions(tmp_path) == {"a.png": "a fox", "b.png": "a hen"}
    (tmp_path / "a.txt").write_text("a cat", encoding="utf-8")
    with pytest.raises(PictureError, match=r"a\.png has two captions, a\.caption and a\.txt: remove one"):
        list_pictures(tmp_path)


@pytest.mark.parametrize("again", ["a.png", "./a.png", "link.png"])
def test_two_captions_of_one_picture(tmp_path: Path, again: str) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to("a.png")
    write_metadata(tmp_path, {"file_name": "a.png", "text": "one"}, {"file_name": again, "text": "two"})
    with pytest.raises(PictureError, match=r"line 2: .*has a caption already, in .*line 1"):
        list_pictures(tmp_path)


@pytest.mark.parametrize("layout", ["beside", "metadata"])
def test_names_that_differ_in_unicodes_normal_form_are_one_name(tmp_path: Path, layout: str) -> None:
    composed, apart = "Füchse/f\u00fcchse", "Füchse/fu\u0308chse"
    picture = tmp_path / (f"{apart}.png" if layout == "metadata" else "fu\u0308chse.png")
    write_picture(picture)
    if layout == "metadata":
        write_metadata(tmp_path, {"file_name": f"{composed}.png", "text": "foxes"})
    else:
        (tmp_path / "f\u00fcchse.txt").write_text("foxes", encoding="utf-8")
    assert [(path, text) for path, text in list_pictures(tmp_path)] == [(picture, "foxes")]


def test_the_caption_of_exactly_the_pictures_name_comes_first(tmp_path: Path) -> None:
    for name in ("f\u00fcchse", "fu\u0308chse"):
        captioned(tmp_path / f"{name}.png", ascii(name))
    assert set(captions(tmp_path).values()) == {ascii("f\u00fcchse"), ascii("fu\u0308chse")}


# --- metadata -------------------------------------------------------------------------------------------------------


def test_metadata_made_on_windows(tmp_path: Path) -> None:
    write_picture(tmp_path / "more" / "a.png")
    write_metadata(tmp_path, {"file_name": "more\\a.png", "text": "a fox"})
    assert captions(tmp_path) == {"more/a.png": "a fox"}


def test_a_table_of_captions_with_more_columns(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text('id, text ,file_name\n7,"a ""red"" fox",a.png\n', encoding="utf-8")
    assert captions(tmp_path) == {"a.png": 'a "red" fox'}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "expected the columns file_name,text in its first line, and found none"),
        ("name,caption\na.png,x\n", "found name, caption"),
        ("file_name;text\na.png;x\n", "found file_name;text"),
        ("file_name,caption\na.png,x\n", 'line 2: a.png has no caption. .*It has caption: rename .* to "text"'),
        ("file_name,text\na.png\n", "line 2: a.png has no caption"),
        ("file_name,text\n,x\n", "line 2: '' lies outside"),
        # What stands behind an unquoted comma would be lost.
        ("file_name,text\na.png,a fox, asleep\n", "line 2: there are more cells than columns.* in quotation marks"),
        ("file_name,text,text\na.png,x,y\n", "there are two columns text"),
        ('file_name,text\na.png,"x\n', "no table with commas"),
        ("file_name,text\nb.png,x\n", r"line 2: .*b\.png does not exist"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, table: str, message: str) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text(table, encoding="utf-8")
    with pytest.raises(PictureError, match=message):
        list_pictures(tmp_path)


def test_two_files_of_metadata_are_one_too_many(tmp_path: Path) -> None:
    for name in ("metadata.jsonl", "metadata.csv"):
        (tmp_path / name).write_text("", encoding="utf-8")
    with pytest.raises(PictureError, match=r"has both metadata\.jsonl and metadata\.csv"):
        list_pictures(tmp_path)


def test_a_caption_in_another_column_is_pointed_out(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    write_metadata(tmp_path, {"file_name": "a.png", "prompt": "a fox"})
    with pytest.raises(PictureError, match='It has prompt: rename what holds the caption to "text"'):
        list_pictures(tmp_path)


def test_metadata_that_names_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    write_metadata(tmp_path, {"file_name": "x.png", "text": "x"})
    with pytest.raises(PictureUnreadable, match=r"x\.png is not a file"):
        list_pictures(tmp_path)


# --- what is a picture, and what is left out ------------------------------------------------------------------------


def test_what_is_left_out_is_named_with_the_reason(tmp_path: Path) -> None:
    captioned(tmp_path / "a.png", "a fox")
    for name in ("clip.mp4", "raw.dng", "sheet.pdf"):
        (tmp_path / name).write_bytes(b"no picture")
        (tmp_path / name).with_suffix(".txt").write_text("a fox", encoding="utf-8")
    (tmp_path / "x.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    captioned(tmp_path / "more" / "b.png", "a hen")
    for name in ("notes.md", ".DS_Store", "Thumbs.db", "._a.png", ".hidden.png"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7 nobody asks for this")
    with pytest.warns(PictureLeftOut) as warned:
        assert captions(tmp_path) == {"a.png": "a fox"}
    (message,) = (str(warning.message) for warning in warned)
    assert message == (
        f"{tmp_path}: left out: clip.mp4, raw.dng, sheet.pdf (Pillow does not decode it); "
        "gone.jpg (a link to nothing); pipe.png (not a regular file); x.png (it is a folder); "
        "more (it is a sub-folder, and there are pictures beside it)."
    )


def test_a_folder_of_which_nothing_is_left_says_so_in_the_error(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.mov").write_bytes(b"\0\0\0\x14ftypqt  ")
    with pytest.raises(NoPictures, match=r"Left out: 0\.mov, 1\.mov, .* and 2 more \(it is a film"):
        list_pictures(tmp_path)


def test_pictures_are_told_by_content_whatever_their_names(tmp_path: Path) -> None:
    for name, kind in (
        ("photo", "JPEG"),
        ("b.jpe", "JPEG"),
        ("c.png_orig", "PNG"),
        ("d.jfif", "PNG"),
        ("e.dat", "TGA"),
    ):
        Image.new("RGB", (8, 8), "red").save(tmp_path / name, kind)
        (tmp_path / name).with_suffix(".txt").write_text(name, encoding="utf-8")
    assert len(load_pictures(tmp_path, 8)) == 5


def test_a_picture_without_a_pictures_name_needs_its_caption_too(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "photo", "PNG")
    with pytest.raises(PictureError, match=r"photo has no caption.*photo\.txt"):
        list_pictures(tmp_path)


# --- links ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["a.png", "a.txt", "metadata.jsonl"])
def test_links_out_of_the_folder_are_refused_in_every_layout(tmp_path: Path, what: str) -> None:
    folder, outside = tmp_path / "pictures", tmp_path / "outside"
    captioned(folder / "a.png", "a fox")
    if what == "metadata.jsonl":
        write_metadata(folder, {"file_name": "a.png", "text": "a fox"})
    outside.mkdir()
    (folder / what).rename(outside / what)
    (folder / what).symlink_to(outside / what)
    with pytest.raises(PictureError, match=f"{what} is a link out of the folder"):
        list_pictures(folder)


def test_links_within_the_folder_and_to_it_are_followed(tmp_path: Path) -> None:
    captioned(tmp_path / "pictures" / "a.png", "a fox")
    (tmp_path / "pictures" / "b.png").symlink_to("a.png")
    (tmp_path / "pictures" / "b.txt").symlink_to("a.txt")
    (tmp_path / "here").symlink_to("pictures")
    assert captions(tmp_path / "here") == {"a.png": "a fox", "b.png": "a fox"}


# --- kohya's sub-folders --------------------------------------------------------------------------------------------


def test_folders_with_repeat_counts_are_understood(tmp_path: Path) -> None:
    captioned(tmp_path / "10_fox" / "a.png", "a fox in snow")
    write_picture(tmp_path / "10_sks cat" / "b.png")
    write_picture(tmp_path / "10_sks cat" / "c.jpg")
    assert captions(tmp_path) == {
        "10_fox/a.png": "a fox in snow",
        "10_sks cat/b.png": "sks cat",
        "10_sks cat/c.jpg": "sks cat",
    }


def test_repeat_counts_that_differ_are_refused_by_name(tmp_path: Path) -> None:
    captioned(tmp_path / "10_fox" / "a.png", "a fox")
    captioned(tmp_path / "2_cat" / "b.png", "a cat")
    with pytest.raises(PictureError, match="repeat counts of 10_fox/ and 2_cat/ differ"):
        list_pictures(tmp_path)


def test_folders_with_repeat_counts_beside_pictures_are_left_out_by_name(tmp_path: Path) -> None:
    captioned(tmp_path / "a.png", "a fox")
    captioned(tmp_path / "10_cat" / "b.png", "a cat")
    with pytest.warns(PictureLeftOut, match="10_cat"):
        assert captions(tmp_path) == {"a.png": "a fox"}


def test_nothing_below_a_folder_with_a_repeat_count_is_passed_over_in_silence(tmp_path: Path) -> None:
    captioned(tmp_path / "10_fox" / "a.png", "a fox")
    captioned(tmp_path / "10_cat" / "more" / "b.png", "a cat")
    captioned(tmp_path / "0_dog" / "c.png", "a dog")
    with pytest.warns(PictureLeftOut, match=r"0_dog \(its repeat count is 0\); 10_cat.more \(it is a sub-folder of a"):
        assert [path.name for path, _ in list_pictures(tmp_path)] == ["a.png"]


def test_a_caption_may_be_called_after_the_whole_name(tmp_path: Path) -> None:
    """It goes before captions of the folder, which would be taken silently otherwise."""
    write_picture(tmp_path / "10_fox" / "a.png")
    (tmp_path / "10_fox" / "a.png.txt").write_text("a cat")
    assert [text for _, text in list_pictures(tmp_path)] == ["a cat"]
    (tmp_path / "10_fox" / "a.txt").write_text("a dog")
    with pytest.raises(PictureError, match=r"has two captions, a\.txt and a\.png\.txt"):
        list_pictures(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_sub_folder_that_nobody_may_read_stops_nothing(tmp_path: Path) -> None:
    """A memory card's lost+found, say."""
    captioned(tmp_path / "a.png", "a fox")
    (tmp_path / "lost+found").mkdir(mode=0o000)
    # In a process of a user without rights: root may read everything.
    tmp_path.chmod(0o755)
    program = (
        "import os, sys, warnings\n"
        "from edge_sdk.pictures import list_pictures\n"
        "os.chdir(sys.argv[1])\n"
        "if os.geteuid() == 0:\n"
        "    list_pictures('.')  # loads all that is needed, which may lie where only root reads\n"
        "    os.seteuid(65534)\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    print([path.name for path, _ in list_pictures('.')], *(w.message for w in caught))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "['a.png'] .: left out: lost+found (it cannot be read: Permission denied)" in done.stdout


def test_other_folders_of_pictures_are_pointed_out(tmp_path: Path) -> None:
    captioned(tmp_path / "holiday" / "a.png", "a fox")
    with pytest.raises(NoPictures, match=r"holiday .it is a sub-folder: give that folder itself"):
        list_pictures(tmp_path)


def test_a_link_to_a_folder_elsewhere_is_refused(tmp_path: Path) -> None:
    captioned(tmp_path / "elsewhere" / "a.png", "a fox")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "10_fox").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PictureError, match="10_fox is a link out of the folder"):
        list_pictures(tmp_path / "pictures")
