"""Adapters that benchmarks.transport moves: of Stable Diffusion 1.5's shapes at rank 4, 3.2 MB each, all different."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_sdk.adapter import Adapter, Factors, Shape, initial_adapter, to_bytes
from edge_sdk.wire import DeviceProfile

RANK = 4
BASE_ID = "e" * 64
SEED = 0
CHUNK = 131072  # bytes of a chunk's payload, header included
_CONTEXT = 768
# Channels -> number of the UNet's transformer blocks with that width.
_BLOCKS = {320: 5, 640: 5, 1280: 6}


def _slots() -> dict[str, Shape]:
    found = {}
    for channels, blocks in _BLOCKS.items():
        for block in range(blocks):
            for attention, context in (("attn1", channels), ("attn2", _CONTEXT)):
                for name in ("to_q", "to_k", "to_v", "to_out.0"):
                    width = context if name in ("to_k", "to_v") else channels
                    found[f"unet.{channels}.{block}.{attention}.{name}"] = Shape(width, channels)
    return found


SLOTS: Mapping[str, Shape] = _slots()


def moved(start: Adapter, number: int) -> Adapter:
    """Update of device `number` from a start, without any training: every number a little larger."""
    step = np.float32(1e-3 * (number + 1))
    return Adapter({name: Factors(f.a + step, f.b + step) for name, f in start.layers.items()}, BASE_ID)


def content(number: int) -> bytes:
    """The file that device `number` sends in the first round."""
    return to_bytes(moved(initial_adapter(SLOTS, RANK, SEED), number))


def profile(number: int) -> DeviceProfile:
    code = np.random.default_rng(number).normal(size=_CONTEXT).astype("<f4").tobytes()
    return DeviceProfile(base_id=BASE_ID, prompt_code=code, pictures=10, max_rank=RANK)
