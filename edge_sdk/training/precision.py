"""Precision and kernels with which this CPU trains fastest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

import torch

from edge_sdk.training.threads import math_attention

TrainingPrecision = Literal["bf16", "fp32"]
# CPU features for bfloat16 products in hardware, on x86 and Arm. Without them, torch emulates it, slower than float32.
_BF16 = frozenset({"amx_bf16", "avx512_bf16", "bf16", "sve_bf16"})
# Up to so many tokens (the latent side squared), plain matrix products beat the fused attention. Measured forward and
# backward in bf16: 3.8 against 14.2 ms for 64 tokens, 196 against 61 ms for 1024.
_SHORT_SEQUENCE = 16 * 16


def native_precision() -> TrainingPrecision:
    """Return "bf16" if the CPU has instructions for it, else "fp32"."""
    return "bf16" if _BF16 & _cpu_features() else "fp32"


def short_sequence(latent_side: int) -> bool:
    """True if plain matrix products are the faster attention for latents of this side."""
    return latent_side**2 <= _SHORT_SEQUENCE


@contextmanager
def fast_attention(latent_side: int) -> Iterator[None]:
    """Use the faster attention for latents of this side inside.

    A step and its gradients belong inside together: checkpointing compares what the kernels keep at both times.
    """
    with math_attention() if short_sequence(latent_side) else nullcontext():
        yield


@contextmanager
def fast_kernels(precision: TrainingPrecision, latent_side: int) -> Iterator[None]:
    """Use mixed precision, and the faster attention for latents of this side, for the UNet inside."""
    with fast_attention(latent_side), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        yield


@contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Let torch use so many threads inside, and afterwards as many as before. None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cpu_features() -> set[str]:
    if hasattr(torch.cpu, "get_capabilities"):
        return {name for name, present in torch.cpu.get_capabilities().items() if present is True}
    cpuinfo = Path("/proc/cpuinfo")  # torch before 2.12
    return set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.is_file() else set()
