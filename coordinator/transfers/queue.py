"""The queue of offered updates: which are pulled now, and which wait. It only decides; `uploads` pulls.

The number of simultaneous pulls is limited, which bounds memory; the other updates are not slower for it, as they share
the connection anyway. A device that is away or silent gives its place up as soon as another one waits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from edge_sdk.wire import Offer

PLACES = 8
"""Number of updates that are pulled at the same time."""

Wanted: TypeAlias = Callable[[str, Offer], bool]
"""Predicate (device, offer): true if the offer would count now."""
Present: TypeAlias = Callable[[str], bool]
"""Predicate (device): true if it is present."""


@dataclass
class _Pull:
    offer: Offer
    chunks: int
    heard: float


class UploadQueue:
    """Offers of updates, the latest of each device.

    Args:
        places: number of updates that are pulled at once.
        patience: seconds without a new chunk after which a device may lose its place.
    """

    def __init__(self, places: int, patience: float) -> None:
        self._places = places
        self._patience = patience
        self._waiting: dict[str, Offer] = {}  # first come, first served
        self._pulls: dict[str, _Pull] = {}

    def add(self, device: str, offer: Offer) -> None:
        """Add an offer at the end; an offer of the update that is being pulled replaces that offer."""
        pull = self._pulls.get(device)
        if pull is None or pull.offer.manifest.sha256 != offer.manifest.sha256:
            self._waiting[device] = offer
        else:
            pull.offer = offer
            self._waiting.pop(device, None)

    def pulled(self, device: str) -> str | None:
        """Return the hash of the update that is being pulled from a device; None if there is none."""
        pull = self._pulls.get(device)
        return pull.offer.manifest.sha256 if pull else None

    def offer(self, device: str) -> Offer:
        """Return the offer of the update that is being pulled from a device. Raises KeyError if there is none."""
        return self._pulls[device].offer

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of updates being pulled and waiting: {"pulled", "waiting"}."""
        return {"pulled": len(self._pulls), "waiting": len(self._waiting)}

    @property
    def contents(self) -> set[tuple[str, str]]:
        """Devices and hashes of all updates being pulled or waiting."""
        offers = {**self._waiting, **{device: pull.offer for device, pull in self._pulls.items()}}
        return {(device, offer.manifest.sha256) for device, offer in offers.items()}

    def progress(self, device: str, chunks: int, now: float) -> None:
        """Note the number of chunks of a device's update that have arrived."""
        pull = self._pulls.get(device)
        if pull and chunks > pull.chunks:
            pull.chunks, pull.heard = chunks, now

    def end(self, device: str, sha256: str) -> Offer | None:
        """End a pull, successful or not; return its offer, None if it had been given up."""
        return self._pulls.pop(device).offer if self.pulled(device) == sha256 else None

    def hold(self, device: str) -> None:
        """Keep the place of a device whose update is complete, until it is stored."""
        if pull := self._pulls.get(device):
            pull.heard = math.inf

    def forget(self, wanted: Wanted) -> None:
        """Drop waiting offers that are no longer wanted."""
        self._waiting = {device: offer for device, offer in self._waiting.items() if wanted(device, offer)}

    def give_up(self, wanted: Wanted, present: Present, now: float) -> list[tuple[str, Offer]]:
        """End pulls that are no longer wanted, or whose places others need; return those to cancel."""
        stopped = []
        for device, pull in list(self._pulls.items()):
            if pull.heard == math.inf:
                continue
            offer, replaced = pull.offer, device in self._waiting
            spare = not replaced and wanted(device, offer)
            if spare and not (self._is_idle(device, pull, present, now) and self._is_needed(wanted, present)):
                continue
            del self._pulls[device]
            stopped.append((device, offer))
            if spare:
                self._waiting[device] = offer  # at the end of the line
        return stopped

    def begin(self, wanted: Wanted, present: Present, now: float) -> tuple[str, Offer] | None:
        """Return the next update to pull; None if no place is free or no present device waits."""
        if len(self._pulls) >= self._places:
            return None
        found = self._next(wanted, present)
        if found:
            device, offer = found
            del self._waiting[device]
            self._pulls[device] = _Pull(offer, 0, now)
        return found

    def _is_idle(self, device: str, pull: _Pull, present: Present, now: float) -> bool:
        return not present(device) or now - pull.heard >= self._patience

    def _is_needed(self, wanted: Wanted, present: Present) -> bool:
        """True if a device waits for a place and none is free."""
        return len(self._pulls) >= self._places and self._next(wanted, present) is not None

    def _next(self, wanted: Wanted, present: Present) -> tuple[str, Offer] | None:
        """Return the next offer: one update a device at a time, also while one is being stored.

        It stops at the first match, as it is called often and thousands may wait.
        """
        return next(
            (
                (device, offer)
                for device, offer in self._waiting.items()
                if device not in self._pulls and present(device) and wanted(device, offer)
            ),
            None,
        )
