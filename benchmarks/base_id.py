"""Base ids at true size: seconds to compute one, in units of reading and hashing the weights once.

    python -m benchmarks.base_id [--quick] [--seed N] [--json FILE]

The weights have the names and shapes of Stable Diffusion 1.5's UNet and random values, once in each way of storing
them; the text encoder and the autoencoder beside them hold one number each. The id is a SHA-256 of the values as
float32, so all ways of storing have the same one.

Measured in turns, in one process, with the file in the system's cache: reading the file; reading it and hashing as many
bytes as the id covers, which no id of this definition can beat; and the id. Rows have the medians, bars the medians of
each turn's ratio. Reading from the cache alone takes a small part of the hash, and is shown without a bar. --quick
takes BK-SDM-Tiny's UNet.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from rich.progress import track

from benchmarks.families.architectures import ARCHITECTURES
from benchmarks.shared.harness import Bar, Report, Row, arguments, value_of
from edge_sdk.inference.bundle import compute_base_id

MODEL, QUICK_MODEL = "sd15", "bk-sdm-tiny"
REPEATS, QUICK_REPEATS = 7, 1
BAR = 2.0  # times reading and hashing the weights once
_PIECE = 8 << 20  # bytes read or written at once
# Bytes of a number in each way of storing.
_DTYPES = {"BF16": 2, "F16": 2, "F32": 4}


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given)
    report = Report(chosen, seeds=[chosen.seed])
    shapes = unet_shapes(ARCHITECTURES[QUICK_MODEL if chosen.quick else MODEL].unet)
    for dtype in track(_DTYPES, description="ways of storing"):
        with tempfile.TemporaryDirectory(prefix="impasto-base-id-", ignore_cleanup_errors=True) as folder:
            file = write_model(Path(folder), shapes, dtype, chosen.seed)
            report.rows.append(measured(Path(folder), file, dtype, QUICK_REPEATS if chosen.quick else REPEATS))
    report.bars += bars(report.rows)
    report.finish()


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Bars: the id of bfloat16 weights, in units of reading and hashing them once; one id for all ways of storing."""
    found = [
        Bar(
            f"id of {value_of(row, 'mb'):.0f} MB of bfloat16: in units of reading and hashing",
            value_of(row, "ratio"),
            BAR,
        )
        for row in rows
        if row["dtype"] == "BF16"
    ]
    return [*found, Bar("ids of the same weights", len({row["id"] for row in rows}), 1)]


def unet_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every weight of a UNet, which takes no memory."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    return {name: tuple(weight.shape) for name, weight in unet.state_dict().items()}


def write_model(folder: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str, seed: int) -> Path:
    """Write a folder of random weights from -2 to 2 in the layout of diffusers; return the UNet's file."""
    for part in ("text_encoder", "vae"):
        _write(folder / part, {"weight": (1,)}, dtype, seed)
    return _write(folder / "unet", shapes, dtype, seed)


def _write(folder: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str, seed: int) -> Path:
    folder.mkdir()
    header, end = {}, 0
    for name, shape in sorted(shapes.items()):
        begin, end = end, end + int(np.prod(shape)) * _DTYPES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    said = json.dumps(header).encode()
    said += b" " * (-len(said) % 8)
    file, random = folder / "diffusion_pytorch_model.safetensors", np.random.default_rng(seed)
    with file.open("wb") as stream:
        stream.write(len(said).to_bytes(8, "little") + said)
        # The same numbers again and again, which changes neither reading nor hashing.
        numbers = random.standard_normal(_PIECE // 4, np.float32).clip(-2, 2)
        for begin in range(0, end // _DTYPES[dtype], len(numbers)):
            stream.write(_stored(numbers[: end // _DTYPES[dtype] - begin], dtype))
    return file


def _stored(values: np.ndarray[tuple[int], np.dtype[np.float32]], dtype: str) -> bytes:
    """The values in a way of storing, rounded so that all ways hold the same numbers.

    bfloat16 is the upper half of a float32. float16 holds its digits, but no numbers so close to zero.
    """
    rounded = np.where(np.abs(values) < 2**-14, np.float32(0), values)
    bits = rounded.view(np.uint32) & np.uint32(0xFFFF0000)
    if dtype == "BF16":
        return (bits >> 16).astype("<u2").tobytes()
    return bits.view(np.float32).astype("<f2" if dtype == "F16" else "<f4").tobytes()


def measured(model: Path, file: Path, dtype: str, repeats: int) -> Row:
    """Median seconds of one turn after the other, after one that warms the cache."""
    size = file.stat().st_size
    times = 4 // _DTYPES[dtype]  # bytes that the id covers for each of the file
    kinds: dict[str, Callable[[], object]] = {
        "read_s": lambda: read(file),
        "read_and_hash_s": lambda: read(file, times),
        "id_s": lambda: compute_base_id(model),
    }
    turns = [{kind: _seconds(call) for kind, call in kinds.items()} for _ in range(repeats + 1)][1:]
    return {
        "dtype": dtype,
        "mb": size / 1e6,
        **{kind: statistics.median(turn[kind] for turn in turns) for kind in kinds},
        "ratio": statistics.median(turn["id_s"] / turn["read_and_hash_s"] for turn in turns),
        "id": compute_base_id(model)[:12],
    }


def read(file: Path, times: int = 0) -> str:
    """Read a file from its beginning to its end, and hash each piece so many times; return the hash."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_PIECE))
    with file.open("rb", buffering=0) as stream:
        while size := stream.readinto(buffer):
            for _ in range(times):
                digest.update(buffer[:size])
    return digest.hexdigest()


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
