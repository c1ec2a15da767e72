"""Surroundings that an app has already: a bundle, an owner's pictures, and a broker with a coordinator elsewhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from coordinator.config import parse
from coordinator.server import Service
from edge_sdk.transport.embedded import EmbeddedBroker
from export import export_model, is_current
from samples.stickers import data

# A federation of a single device, so that this sample needs no others; rounds of a larger one are the same.
FEDERATION = """
name = "quickstart"
broker = "{broker}"
bundle = "{bundle}"
min_devices = 1
rounds = 2
root_rounds = 1
steps = {steps}
learning_rate = 1e-3

[clustering]
clusters = 1
"""


def make_bundle(model: Path, folder: Path) -> Path:
    """Export the base model unless the folder holds what this would make."""
    if is_current(folder, model):
        return folder
    return export_model(model, folder, overwrite=True).folder


def write_pictures(folder: Path, *, style: str, count: int) -> Path:
    """Write a folder of stickers of one style with their captions in metadata.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    stickers = data.read(keep=lambda sticker: sticker.style == style and sticker.split == "train")[:count]
    rows = []
    for i, (sticker, pixels) in enumerate(zip(stickers, data.pictures(stickers), strict=True)):
        Image.fromarray(pixels).save(folder / f"{i}.png")
        rows.append(json.dumps({"file_name": f"{i}.png", "text": sticker.text}))
    (folder / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder


@contextmanager
def federation(bundle: Path, steps: int) -> Iterator[str]:
    """Run a broker and a coordinator in this process; yields the broker's URL."""
    with EmbeddedBroker() as broker, TemporaryDirectory(prefix="quickstart-") as folder:
        settings = FEDERATION.format(broker=broker.url, bundle=bundle.resolve(), steps=max(1, steps // 2))
        service = Service(parse(settings, folder=Path(folder)))
        thread = threading.Thread(target=service.run, name="coordinator")
        thread.start()
        try:
            yield broker.url
        finally:
            service.stop()
            thread.join()
