"""A federation of three devices, in threads of the test, and where its blobs lie."""

from __future__ import annotations

from pathlib import Path

from coordinator import config
from tests.integration.coordinators import write_federation
from tests.integration.devices import Device

ROUNDS, NUMBER = 3, 3


def whole(folder: Path, url: str) -> tuple[Path, Path]:
    """A federation of three devices, and where its blobs lie."""
    path = write_federation(folder, url, rounds=ROUNDS, more='[clustering]\nmethod = "single"\n', devices=NUMBER)
    return path, Path(config.load(path).blobs)


def devices(url: str, folder: Path) -> list[Device]:
    return [Device(number, url, folder / f"device-{number}").start() for number in range(NUMBER)]
