"""Which offered updates are pulled now, and which wait for their turn. Decides only; the service pulls.

At most so many are pulled at once, which bounds memory; the others are not slower for it, as the line is shared anyway.
A device that is away, or from which nothing has come for a while, gives its place up as soon as another one waits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from edge_sdk.wire import Offer

PLACES = 8
"""Updates that are pulled at the same time."""

Wanted: TypeAlias = Callable[[str, Offer], bool]
"""Whether a device's offer would count now."""
Present: TypeAlias = Callable[[str], bool]
"""Whether a device is there."""


@dataclass
class _Pull:
    offer: Offer
    chunks: int
    heard: float


class UploadQueue:
    """One offer a device: the latest.

    Args:
        places: how many updates are pulled at once.
        patience: seconds without a new chunk after which a device gives its place up.
    """

    def __init__(self, places: int, patience: float) -> None:
        self._places = places
        self._patience = patience
        self._waiting: dict[str, Offer] = {}  # first come, first served
        self._pulls: dict[str, _Pull] = {}

    def add(self, device: str, offer: Offer) -> None:
        """Put an offer in the line; of what is being pulled already the last word counts."""
        pull = self._pulls.get(device)
        if pull is None or pull.offer.manifest.sha256 != offer.manifest.sha256:
            self._waiting[device] = offer
        else:
            pull.offer = offer
            self._waiting.pop(device, None)

    def pulled(self, device: str) -> str | None:
        """The hash of what is being pulled from a device, None if nothing is."""
        pull = self._pulls.get(device)
        return pull.offer.manifest.sha256 if pull else None

    def offer(self, device: str) -> Offer:
        """What the pull from a device is for. KeyError: nothing is being pulled."""
        return self._pulls[device].offer

    @property
    def counts(self) -> dict[str, int]:
        """How many updates are being pulled, and how many wait."""
        return {"pulled": len(self._pulls), "waiting": len(self._waiting)}

    @property
    def contents(self) -> set[tuple[str, str]]:
        """What is being pulled or waits for it: devices and hashes."""
        offers = {**self._waiting, **{device: pull.offer for device, pull in self._pulls.items()}}
        return {(device, offer.manifest.sha256) for device, offer in offers.items()}

    def progress(self, device: str, chunks: int, now: float) -> None:
        """So many chunks of a device's update are there."""
        pull = self._pulls.get(device)
        if pull and chunks > pull.chunks:
            pull.chunks, pull.heard = chunks, now

    def end(self, device: str, sha256: str) -> Offer | None:
        """A pull has ended, well or not: the offer that it was for; None if it had been given up."""
        return self._pulls.pop(device).offer if self.pulled(device) == sha256 else None

    def hold(self, device: str) -> None:
        """A device's update is there and is being stored: whatever happens, it keeps its place until that ends."""
        if pull := self._pulls.get(device):
            pull.heard = math.inf

    def forget(self, wanted: Wanted) -> None:
        """Drop the offers that wait for what is not wanted any more."""
        self._waiting = {device: offer for device, offer in self._waiting.items() if wanted(device, offer)}

    def give_up(self, wanted: Wanted, present: Present, now: float) -> list[tuple[str, Offer]]:
        """End the pulls that are not wanted any more, or whose places others need; returns those to stop."""
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
        """The next update to pull, None if there is no free place or nobody waits who is there."""
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
        """Whether somebody waits for a place and there is none."""
        return len(self._pulls) >= self._places and self._next(wanted, present) is not None

    def _next(self, wanted: Wanted, present: Present) -> tuple[str, Offer] | None:
        """Whose turn it is: one update a device at a time, also while one is being stored. Looks no further than to
        that one, as this is asked all the time, and thousands may wait."""
        return next(
            (
                (device, offer)
                for device, offer in self._waiting.items()
                if device not in self._pulls and present(device) and wanted(device, offer)
            ),
            None,
        )
