"""The device's half of privacy: the codes that a device sends instead of its prompts and pictures.

codes.py     from captions to a code, by any text encoder
pictures.py  from embedded pictures to a code
levels.py    the levels, by name; plain.py and coarse.py are one each
basis.py     the public directions that codes of level "coarse" are reduced to
"""

from __future__ import annotations

from edge_sdk.privacy.basis import DIMENSIONS, FEWEST_STYLES, Basis, basis_id, load_basis, make_basis, save_basis
from edge_sdk.privacy.coarse import Coarse
from edge_sdk.privacy.codes import Encoder, different_captions, prompt_code, unit_length
from edge_sdk.privacy.levels import DEFAULT, LEVELS, Level, level_named
from edge_sdk.privacy.pictures import picture_code

__all__ = [
    "DEFAULT",
    "DIMENSIONS",
    "FEWEST_STYLES",
    "LEVELS",
    "Basis",
    "Coarse",
    "Encoder",
    "Level",
    "basis_id",
    "different_captions",
    "level_named",
    "load_basis",
    "make_basis",
    "picture_code",
    "prompt_code",
    "save_basis",
    "unit_length",
]
