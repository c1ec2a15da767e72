"""The files that benchmarks.base_id writes, its measurements and its bars."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks.base_id import bars, measured, read, unet_shapes, write_model
from benchmarks.families.architectures import ARCHITECTURES

SHAPES = {"conv_in.weight": (8, 4, 3, 3), "conv_in.bias": (8,), "big.weight": (1500, 1500)}


def test_shapes_are_those_of_stable_diffusion_15() -> None:
    shapes = unet_shapes(ARCHITECTURES["sd15"].unet)
    assert len(shapes) == 686
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 859_520_964


def test_every_way_of_storing_has_the_same_id(tmp_path: Path) -> None:
    rows = []
    for dtype in ("BF16", "F16", "F32"):
        (tmp_path / dtype).mkdir()
        file = write_model(tmp_path / dtype, SHAPES, dtype, 1)
        rows.append(measured(tmp_path / dtype, file, dtype, 1))
        if dtype == "F32":
            values = load_file(file)
            assert {name: value.shape for name, value in values.items()} == SHAPES
            assert 0.5 < np.std(values["big.weight"]) < 1.0
    assert len({row["id"] for row in rows}) == 1
    for row in rows:
        assert min(row[name] for name in ("read_s", "read_and_hash_s", "id_s", "ratio")) > 0


def test_reading_takes_the_whole_file(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes((8 << 20) + 5)
    (tmp_path / "file").write_bytes(content)
    assert read(tmp_path / "file", 1) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(("ratio", "other", "holds"), [(1.9, "a", [True, True]), (2.1, "b", [False, False])])
def test_bars_are_of_bfloat16_and_of_the_ids(ratio: float, other: str, holds: list[bool]) -> None:
    rows = [
        {"dtype": "BF16", "mb": 1719.0, "ratio": ratio, "id": "a"},
        {"dtype": "F32", "mb": 3438.0, "ratio": 9.0, "id": other},
    ]
    found = bars(rows)
    assert found[0].name.startswith("id of 1719 MB of bfloat16")
    assert [bar.holds for bar in found] == holds
