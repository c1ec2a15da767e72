"""The device's half of privacy: the prompt codes that a device sends instead of its prompts."""

from edge_sdk.privacy.codes import LEVELS, prompt_code
from edge_sdk.privacy.pictures import picture_code

__all__ = ["LEVELS", "picture_code", "prompt_code"]
