"""Settings that the demo's processes share: one JSON file in the demo's folder."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge_sdk.adapter import LayerSet

FEDERATION = "stickers"
# Attention alone cannot draw fine textures in a new style.
LAYERS: LayerSet = "all"
# Guidance multiplies what an adapter has learnt; at its full weight a style costs subjects.
WEIGHT = 0.75
LEARNING_RATE = 1e-3
# A device writes this file last, in its folder: a device that has it is done.
RESULT = "result.json"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Folders, the broker, and how much is trained, judged and drawn.

    A device trains `rounds * steps` steps in the federation and as many when it learns alone.
    """

    out: str
    model: str
    base_id: str
    bundle: str
    broker: str
    devices: int
    rounds: int
    steps: int
    rank: int
    batch_size: int
    seed: int
    judged: int
    draw_steps: int
    guidance: float
    deadline: float

    @property
    def folder(self) -> Path:
        return Path(self.out)

    def device_folder(self, device: str) -> Path:
        return self.folder / "devices" / device

    @property
    def file(self) -> Path:
        return self.folder / "settings.json"

    def agrees_with(self, other: Settings) -> bool:
        """True if all settings but the broker's URL are equal, so that a demo of one can go on with the other."""
        return msgspec.structs.replace(self, broker=other.broker) == other

    def save(self) -> None:
        self.file.write_bytes(msgspec.json.format(msgspec.json.encode(self)))

    @staticmethod
    def load(file: Path) -> Settings:
        return msgspec.json.decode(file.read_bytes(), type=Settings)
