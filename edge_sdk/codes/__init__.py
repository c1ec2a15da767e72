"""The codes of a device, made by its bundle: what it sends instead of its prompts and pictures.

code.py      a code, its level, and what it was made with
prompts.py   from captions to prompt codes
pictures.py  from pictures to picture codes
kept.py      codes that were sent, and stay while little has changed
"""

from __future__ import annotations

from edge_sdk.codes.code import Code
from edge_sdk.codes.kept import kept_code
from edge_sdk.codes.pictures import different_pictures, picture_codes
from edge_sdk.codes.prompts import basis_of, prompt_codes

__all__ = ["Code", "basis_of", "different_pictures", "kept_code", "picture_codes", "prompt_codes"]
