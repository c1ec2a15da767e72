from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_sdk.inference.runtime.memory import parse_size, show_size, working_set


@pytest.mark.parametrize(
    ("size", "number"),
    [
        (1, 1),
        ("12", 12),
        ("900MB", 900_000_000),
        ("1.5 GB", 1_500_000_000),
        ("2GiB", 2**31),
        ("1g", 10**9),
        ("7 kib", 7168),
    ],
)
def test_sizes(size: int | str, number: int) -> None:
    assert parse_size(size) == number


@pytest.mark.parametrize("size", [0, -1, "", "GB", "1XB", "1 iB", "-1GB", "nan", "0.1", "1e9", None, 1.5, True])
def test_what_is_no_size(size: Any) -> None:
    with pytest.raises(ValueError, match=r"size"):
        parse_size(size)


def test_sizes_for_people() -> None:
    assert (show_size(677_400_000), show_size(4_520_000_000)) == ("677 MB", "4.5 GB")


def test_the_working_set_grows_with_pictures_not_with_adapters() -> None:
    latents = np.zeros((1, 4, 64, 64), np.float32)
    text = np.zeros((1, 77, 2048), np.float32)
    one = working_set("unet", {"sample": latents, "encoder_hidden_states": text})
    assert working_set("unet", {"sample": np.repeat(latents, 2, 0), "encoder_hidden_states": text}) == 2 * one
    assert working_set("unet", {"sample": latents, "unet.a.lora_A.weight": np.zeros((9, 9, 9, 999), np.float32)}) == one
    assert working_set("vae_decoder", {"latent_sample": latents}) > one
