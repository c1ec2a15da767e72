"""The board's name, from the device tree."""

from __future__ import annotations

from pathlib import Path

_MODEL = Path("/proc/device-tree/model")


def board_model(file: Path = _MODEL) -> str | None:
    """The name that the board states, such as "Raspberry Pi 5 Model B Rev 1.0"; None where it states none."""
    try:
        text = file.read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return None
    return text.strip("\0 \n")[:100] or None


def is_raspberry_pi(model: str | None) -> bool:
    """True if that is the name of a Raspberry Pi."""
    return model is not None and model.startswith("Raspberry Pi")
