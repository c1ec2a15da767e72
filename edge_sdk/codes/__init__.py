"""The codes of a device, made by its bundle: what it sends instead of its prompts.

prompts.py   from captions to prompt codes
kept.py      codes that were sent, and stay while little has changed
"""

from __future__ import annotations

from edge_sdk.codes.kept import kept_code
from edge_sdk.codes.prompts import PromptCode, basis_of, prompt_codes

__all__ = ["PromptCode", "basis_of", "kept_code", "prompt_codes"]
