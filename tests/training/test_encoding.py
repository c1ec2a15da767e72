"""Pictures on their way to the trainer: those of a folder and Pillow's objects are read alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_sdk.errors import PictureError, PictureUnreadable
from edge_sdk.inference.sampling.latents import to_pixels
from edge_sdk.pictures import open_picture
from edge_sdk.training.encoding import gather


def test_the_trainer_and_the_device_see_the_same_picture_whether_file_or_object(tmp_path: Path) -> None:
    image = Image.new("RGBA", (24, 16), (0, 0, 0, 0))
    image.paste("red", (0, 0, 12, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    image.save(path, exif=exif)
    (tmp_path / "a.txt").write_text("half red", "utf-8")
    with Image.open(path) as opened:
        of_folder, of_object = gather(tmp_path, 16), gather([(opened, "half red")], 16)
        assert of_folder.digest == of_object.digest
        assert np.array_equal(to_pixels(open_picture(path), (16, 16)), to_pixels(opened, (16, 16)))
    assert set(map(tuple, of_folder.pixels.reshape(-1, 3))) >= {(255, 0, 0), (255, 255, 255)}
    drawn = (to_pixels(open_picture(path), (16, 16))[0].transpose(1, 2, 0) + 1) * 127.5
    assert np.array_equal(drawn.round(), of_folder.pixels[0])


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (1, 1)])
def test_strips_and_dots(size: tuple[int, int]) -> None:
    assert gather([(Image.new("RGB", size, "red"), "red")], 64).pixels.shape == (1, 64, 64, 3)


def test_what_cannot_be_used_is_counted() -> None:
    fine = (Image.new("RGB", (8, 8)), "fine")
    with pytest.raises(PictureUnreadable, match="Picture 2 has 0x5 pixels"):
        gather([fine, (Image.new("RGB", (0, 5)), "nothing")], 8)
    with pytest.raises(PictureError, match="Picture 1 is a ndarray"):
        gather([(np.zeros((4, 4, 3), np.uint8), "text")], 8)  # type: ignore[list-item]
    with pytest.raises(PictureError, match="caption of picture 2 is a NoneType"):
        gather([fine, (Image.new("RGB", (8, 8)), None)], 8)  # type: ignore[list-item]
    for alone in (Image.new("RGB", (8, 8)), (Image.new("RGB", (8, 8)),), (*fine, "more")):
        with pytest.raises(PictureError, match=r"Picture 2 has no caption: give pairs \(image, caption\)"):
            gather([fine, alone], 8)  # type: ignore[list-item]
