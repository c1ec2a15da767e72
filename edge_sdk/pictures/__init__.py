"""The owner's pictures: one reader for files and Pillow's objects, the layouts of captioned folders, and a writer."""

from edge_sdk.pictures.captions import JSON_LINES, MAX_CAPTION, TABLE
from edge_sdk.pictures.folder import Picture, PictureLeftOut, list_pictures, load_pictures
from edge_sdk.pictures.formats import has_picture_suffix
from edge_sdk.pictures.reader import MAX_PIXELS, fit, open_picture, to_rgb
from edge_sdk.pictures.writer import format_of, save_picture

__all__ = [
    "JSON_LINES",
    "MAX_CAPTION",
    "MAX_PIXELS",
    "TABLE",
    "Picture",
    "PictureLeftOut",
    "fit",
    "format_of",
    "has_picture_suffix",
    "list_pictures",
    "load_pictures",
    "open_picture",
    "save_picture",
    "to_rgb",
]
