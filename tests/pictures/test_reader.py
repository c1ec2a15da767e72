"""One reader for files and for Pillow's objects: what people's pictures are like, and what must come of them."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from edge_sdk.errors import PictureError, PictureUnreadable
from edge_sdk.inference.sampling.latents import to_pixels
from edge_sdk.pictures import MAX_PIXELS, fit, load_pictures, open_picture, to_rgb

RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def color(image: Image.Image, tolerance: int = 0) -> tuple[int, ...]:
    """The one colour of a picture."""
    assert image.mode == "RGB"
    low, high = zip(*image.getextrema(), strict=True)
    assert max(np.subtract(high, low)) <= tolerance
    return tuple(low)


def half_white() -> Image.Image:
    """24 x 16, its left half white."""
    image = Image.new("RGB", (24, 16), "black")
    image.paste("white", (0, 0, 12, 16))
    return image


def with_exif(image: Image.Image, exif: bytes, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif)
    return buffer.getvalue()


def orientation(value: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


def colour_profile(space: str, columns: Sequence[Sequence[float]] = ()) -> bytes:
    """An ICC profile (2.1) of gamma 2.2 in these primaries (XYZ at D50), or a linear one of grey."""

    def number(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def point(values: Sequence[float]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(number, values))

    gamma = 2.2 if columns else 1.0
    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    white = (0.9642, 1.0, 0.8249)
    tags = {b"wtpt": point(white), b"desc": b"desc\0\0\0\0" + struct.pack(">I", 4) + b"own\0" + bytes(80)}
    for letter, column in zip("rgb", columns, strict=False):
        tags |= {f"{letter}XYZ".encode(): point(column), f"{letter}TRC".encode(): curve}
    if not columns:
        tags[b"kTRC"] = curve
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        table += name + struct.pack(">II", start + len(body), len(tag))
        body += tag
    header = struct.pack(">I", start + len(body)) + b"lcms\2\x10\0\0mntr" + space.encode().ljust(4) + b"XYZ "
    return (header + bytes(12) + b"acsp" + bytes(28) + b"".join(map(number, white))).ljust(128, b"\0") + table + body


# --- colours --------------------------------------------------------------------------------------------------------

# Their columns are red, green and blue in XYZ at D50.
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
SHOWN = (200, 60, 60)


def in_srgb(color: Sequence[int]) -> np.ndarray:
    linear = np.linalg.solve(SRGB, DISPLAY_P3 @ (np.array(color) / 255) ** 2.2).clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_are_those_that_the_profile_means(mode: str, tmp_path: Path) -> None:
    """Telephones write Display P3, in which the same numbers are stronger colours."""
    image = Image.new("RGB", (8, 8), SHOWN)
    image = image.quantize(2) if mode == "P" else image.convert(mode)
    path = saved(image, tmp_path / "a.png", icc_profile=colour_profile("RGB", DISPLAY_P3.T.tolist()))
    assert np.abs(np.array(color(open_picture(path))) - in_srgb(SHOWN)).max() < 3
    assert np.abs(in_srgb(SHOWN) - SHOWN).max() > 15


def test_shades_are_those_that_the_profile_means(tmp_path: Path) -> None:
    for mode, shade in (("L", 128), ("LA", (128, 255))):
        path = saved(Image.new(mode, (8, 8), shade), tmp_path / "a.png", icc_profile=colour_profile("GRAY"))
        assert abs(color(open_picture(path))[0] - 188) <= 1  # linear 128 / 255 as sRGB has it


@pytest.mark.parametrize("profile", [b"damaged" * 30, colour_profile("GRAY"), colour_profile("CMYK")[:200], "text"])
def test_a_profile_that_is_of_no_use_changes_nothing(profile: object) -> None:
    image = Image.new("RGB", (8, 8), SHOWN)
    image.info["icc_profile"] = profile
    assert color(to_rgb(image)) == SHOWN


def test_srgb_stays_as_it_is() -> None:
    image = Image.new("RGB", (8, 8), SHOWN)
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert color(to_rgb(image)) == SHOWN


# --- orientation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("value", range(1, 9))
def test_the_orientation_is_obeyed_in_files_and_in_objects(tmp_path: Path, kind: str, value: int) -> None:
    image = half_white()
    path = tmp_path / f"photo.{kind.lower()}"
    path.write_bytes(with_exif(image, orientation(value), kind))
    turned = {
        1: image, 2: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 3: image.rotate(180),
        4: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), 5: image.transpose(Image.Transpose.TRANSPOSE),
        6: image.rotate(-90, expand=True), 7: image.transpose(Image.Transpose.TRANSVERSE),
        8: image.rotate(90, expand=True),
    }[value]  # fmt: skip
    with Image.open(path) as opened:
        for found in (open_picture(path), to_rgb(opened)):
            assert found.size == turned.size
            assert np.abs(np.asarray(found).astype(int) - np.asarray(turned)).max() < 40


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_no_metadata_whatever_keeps_a_picture_from_being_read(tmp_path: Path, kind: str) -> None:
    """Pillow's exif_transpose writes the metadata anew, on which it fails for every third of these."""
    dice = random.Random(4)
    path = tmp_path / "photo"
    for _ in range(400):
        entries = b"".join(
            struct.pack("<HHI4s", dice.choice([0x0112, 0x8769, 0x8825, dice.randrange(0x10000)]), dice.randrange(14),
                        dice.randrange(5), dice.randbytes(4))
            for _ in range(dice.randrange(6))
        )  # fmt: skip
        tags = struct.pack("<HHI4s", 0x0112, 3, 1, struct.pack("<HH", dice.randrange(10), 0)) + entries
        exif = (
            b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags) // 12) + tags + dice.randbytes(dice.randrange(30))
        )
        path.write_bytes(with_exif(half_white(), exif[: dice.randrange(20, len(exif) + 1)], kind))
        assert sorted(open_picture(path).size) == [16, 24]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, when an app opens it
            opened = Image.open(path)
        with opened:
            assert sorted(to_rgb(opened).size) == [16, 24]


@pytest.mark.parametrize("value", ["up", (1, 2), 0, 9, 65535, b"\x06"])
def test_orientations_that_are_none_turn_nothing(value: object) -> None:
    image = half_white()
    image.getexif()[0x0112] = value
    assert to_rgb(image).size == image.size


def test_what_is_read_stays_as_it_is() -> None:
    image = Image.new("RGBA", (24, 16), (0, 0, 0, 0))
    image.getexif()[0x0112] = 6
    to_rgb(image)
    assert (image.mode, image.size, image.getexif()[0x0112]) == ("RGBA", (24, 16), 6)


# --- modes and depths -----------------------------------------------------------------------------------------------


def sixteen_bits(low: int = 0, high: int = 0xFFFF) -> Image.Image:
    return Image.fromarray(np.linspace(low, high, 256).astype(np.uint16).reshape(16, 16))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bit_grey_keeps_its_shades(tmp_path: Path, suffix: str) -> None:
    found = np.asarray(open_picture(saved(sixteen_bits(), tmp_path / f"scan{suffix}")))
    assert np.array_equal(found[..., 0].ravel(), np.arange(256))
    assert np.array_equal(found[..., 0], found[..., 2])


def test_grey_of_32_bits_is_of_8_or_of_16() -> None:
    shades = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    for image in (shades, shades.convert("I"), sixteen_bits(), sixteen_bits().convert("I")):
        assert np.array_equal(np.asarray(to_rgb(image))[..., 1].ravel(), np.arange(256))


@pytest.mark.parametrize(
    "values", [np.full((4, 4), 70_000, np.int32), np.full((4, 4), -1, np.int32), np.ones((4, 4), np.float32)]
)
def test_numbers_without_a_known_white_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    image = Image.fromarray(values)
    with pytest.raises(PictureUnreadable, match=r"map\.tif holds .* save it as 8-"):
        open_picture(saved(image, tmp_path / "map.tif"))
    with pytest.raises(PictureUnreadable, match="nothing says which of them is white"):
        to_rgb(image)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (4, 4), (0, 0, 0, 0)), WHITE),
        (Image.new("RGBA", (4, 4), (0, 0, 0, 255)), BLACK),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 255)), RED),
        (Image.new("LA", (4, 4), (0, 0)), WHITE),
        (Image.new("La", (4, 4), (0, 0)), WHITE),
        (Image.new("RGBa", (4, 4), (0, 0, 0, 0)), WHITE),
        (Image.new("PA", (4, 4), (0, 0)), WHITE),
        (Image.new("RGBX", (4, 4), (255, 0, 0, 0)), RED),
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), (254, 0, 0)),
        (Image.new("YCbCr", (4, 4), (255, 128, 128)), WHITE),
        (Image.new("HSV", (4, 4), (0, 255, 255)), RED),
        (Image.new("1", (4, 4), 1), WHITE),
        (Image.new("L", (4, 4), 7), (7, 7, 7)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_every_mode_becomes_rgb_on_white(image: Image.Image, expected: tuple[int, ...]) -> None:
    assert color(to_rgb(image)) == pytest.approx(expected, abs=2)


def test_lab_becomes_the_colour_that_it_means(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 8), "red")
    lab = ImageCms.profileToProfile(
        red, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    assert color(open_picture(saved(lab, tmp_path / "a.tif"))) == pytest.approx(RED, abs=8)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_one_transparent_colour_becomes_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (8, 8), "black").convert(mode)
    clear = (0, 0, 0) if mode == "RGB" else 0
    assert color(open_picture(saved(image, tmp_path / "a.png", transparency=clear))) == WHITE
    assert color(open_picture(saved(image, tmp_path / "b.png"))) == BLACK


def png16(kind: int, pixel: bytes, clear: bytes) -> bytes:
    """A PNG of 4 x 4 equal pixels of 16 bits a channel, with one colour that is transparent."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compress((b"\0" + 4 * pixel) * 4)
    header = struct.pack(">IIBBBBB", 4, 4, 16, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"tRNS", clear) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("pixel", [b"\x12\x34", b"\x12\x34" * 3], ids=["grey", "colour"])
def test_a_transparent_colour_of_sixteen_bits(tmp_path: Path, pixel: bytes) -> None:
    path = tmp_path / "a.png"
    kind = 0 if len(pixel) == 2 else 2
    path.write_bytes(png16(kind, pixel, pixel))
    assert color(open_picture(path)) == WHITE
    path.write_bytes(png16(kind, pixel, bytes(len(pixel))))
    assert color(open_picture(path)) == (0x12, 0x12, 0x12)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_counts(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), name) for name in ("red", "blue", "lime")]
    path = tmp_path / "moving"
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], **options)
    assert color(open_picture(path)) == RED


# --- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (1, 1), (3, 2)])
def test_strips_and_dots_are_read_without_growing_on_the_way(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "red")
    assert fit(to_rgb(image), (64, 64)).size == (64, 64)
    assert to_pixels(image, (64, 32)).shape == (1, 3, 32, 64)


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_nothing_to_see(size: tuple[int, int]) -> None:
    with pytest.raises(PictureUnreadable, match="pixels: there is nothing to see"):
        to_rgb(Image.new("RGB", size))


def test_an_object_may_have_no_more_pixels_than_a_file() -> None:
    with pytest.raises(PictureUnreadable, match="Scale it down"):
        to_rgb(Image.new("1", (8_001, MAX_PIXELS // 8_000)))


def test_a_picture_inside_another_is_checked_as_well(tmp_path: Path) -> None:
    """The icon's header states 16 x 16 pixels, and its content is a decompression bomb."""
    header = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    bomb += struct.pack(">I", zlib.crc32(b"IHDR" + header)) + struct.pack(">I", 0) + b"IEND\xaeB`\x82"
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(bomb), 22)
    path = tmp_path / "a.ico"
    path.write_bytes(struct.pack("<HHH", 0, 1, 1) + entry + bomb)
    with pytest.raises(PictureUnreadable, match=r"a\.ico cannot be decoded"):
        open_picture(path)


# --- what is no picture ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", ["a path", b"bytes", None, np.zeros((4, 4, 3), np.uint8)])
def test_what_is_no_image_is_said(thing: object) -> None:
    with pytest.raises(PictureError, match=r"give a PIL\.Image\.Image"):
        to_rgb(thing)  # type: ignore[arg-type]


def test_an_object_whose_file_is_cut_short(tmp_path: Path) -> None:
    path = saved(Image.effect_noise((64, 64), 50), tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:900])
    with Image.open(path) as opened, pytest.raises(PictureUnreadable, match="cannot be decoded"):
        to_rgb(opened)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "is a folder"),
        (os.mkfifo, "is no file"),
        (lambda path: path.symlink_to("nowhere"), "does not exist"),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html><title>404</title>"), "web page"),
        (lambda path: path.write_bytes(b"\0\0\0\x20ftypisom"), "film"),
        (lambda path: path.write_bytes(b"junk"), "no picture that Pillow knows"),
        (
            lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"),
            "no picture",
        ),
    ],
)
def test_what_a_file_is_instead_is_said(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "x.png"
    make(path)
    with pytest.raises(PictureUnreadable, match=message):
        open_picture(path)


# --- formats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF", "TGA", "ICO"])
def test_pictures_are_known_by_their_content(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "photo.jpg"  # whatever it is
    half_white().save(path, kind)
    assert open_picture(path).mode == "RGB"


def test_heic_is_read_with_its_plugin(tmp_path: Path) -> None:
    path = tmp_path / "IMG_1.HEIC"
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), "red")).save(path)
    (tmp_path / "IMG_1.txt").write_text("red", "utf-8")
    (picture,) = load_pictures(tmp_path, 8)
    assert color(picture.image) == pytest.approx(RED, abs=4)


def test_without_its_plugin_heic_is_left_out_by_name(tmp_path: Path) -> None:
    for name in ("IMG_1.HEIC", "IMG_2.heic", "IMG_3.jpg"):
        pillow_heif.from_pillow(Image.new("RGB", (64, 48), "red")).save(tmp_path / "a.heic")
        (tmp_path / "a.heic").rename(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text("red", "utf-8")
    code = (
        "import sys\n"
        "sys.modules['pillow_heif'] = sys.modules['pi_heif'] = None\n"  # not installed, for all that Python knows
        "from edge_sdk.pictures import load_pictures\n"
        f"load_pictures({str(tmp_path)!r}, 8)"
    )

    def run() -> str:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120).stderr

    assert 'IMG_3.jpg cannot be decoded (HEIC needs one more package: pip install "impasto[heic]")' in run()
    (tmp_path / "IMG_3.jpg").unlink()
    left_out = 'IMG_1.HEIC, IMG_2.heic (HEIC needs one more package: pip install "impasto[heic]")'
    assert f"in .txt files beside them. Left out: {left_out}" in run()
    saved(Image.new("RGB", (8, 8), "red"), tmp_path / "z.png")
    (tmp_path / "z.txt").write_text("red", "utf-8")
    assert f"PictureLeftOut: {tmp_path}: left out: {left_out}" in run()


def test_pillow_says_nothing_of_its_own(tmp_path: Path) -> None:
    """Its warnings are errors here."""
    path = tmp_path / "a.jpg"
    path.write_bytes(with_exif(half_white(), b"Exif\0\0II*\0\x08\0\0\0\xff\xff", "JPEG"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_picture(path)
