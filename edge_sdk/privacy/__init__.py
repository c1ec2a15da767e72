"""The device's half of privacy: the prompt codes that a device sends instead of its prompts."""

from edge_sdk.privacy.codes import LEVELS, prompt_code

__all__ = ["LEVELS", "prompt_code"]
