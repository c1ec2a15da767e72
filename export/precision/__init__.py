"""Other precisions of a float32 bundle: float16 and int8. Needs no torch.

conversion.py     a bundle in another precision, and the errors that this makes
half.py           graphs that compute in float16, or store their weights in it
quantization.py   graphs that compute in int8
calibration.py    inputs of the graphs while they draw, from which int8's ranges are chosen
"""

from __future__ import annotations

from export.precision.calibration import (
    FEWEST_PROMPTS,
    PROMPTS,
    Feeds,
    Recording,
    check_prompts,
    read_feed,
    read_prompts,
    record,
)
from export.precision.conversion import PRECISIONS, check_precision, convert
from export.precision.half import compute_in_half, store_in_half
from export.precision.quantization import KEPT, quantize

__all__ = [
    "FEWEST_PROMPTS",
    "KEPT",
    "PRECISIONS",
    "PROMPTS",
    "Feeds",
    "Recording",
    "check_precision",
    "check_prompts",
    "compute_in_half",
    "convert",
    "quantize",
    "read_feed",
    "read_prompts",
    "record",
    "store_in_half",
]
