"""The device's half of privacy: what a device says about its prompts without sending them."""

from edge_sdk.privacy.codes import LEVELS, prompt_code

__all__ = ["LEVELS", "prompt_code"]
