"""Adapters on their way out: which device has stored what, and who has taken home all that there is."""

from __future__ import annotations

from coordinator import rounds
from coordinator.runner import Runner
from coordinator.telemetry import Reports
from edge_sdk.wire import Finished, Manifest


class Deliveries:
    """What devices still owe a `committed` for, of the adapters that their `finished` named.

    Args:
        runner: is told when a device has all of them.
        report: is told of every adapter that a device has stored.
    """

    def __init__(self, runner: Runner, report: Reports) -> None:
        self._runner = runner
        self._report = report
        self._owed: dict[str, set[str]] = {}

    def begin(self, device: str, finished: Finished) -> rounds.Event | None:
        """A device was told what to take home; an event if that is nothing."""
        self._owed[device] = {manifest.sha256 for manifest in finished.manifests}
        return self._served(device)

    def stored(self, device: str, manifest: Manifest) -> None:
        """A device has stored an adapter."""
        self._report("adapter_delivered", device=device, name=manifest.name, size=manifest.size)
        if device not in self._owed:
            return
        self._owed[device].discard(manifest.sha256)
        if served := self._served(device):
            self._runner.feed(served)

    def forget(self, device: str) -> None:
        """There is no such device any more."""
        self._owed.pop(device, None)

    def _served(self, device: str) -> rounds.Event | None:
        if self._owed[device]:
            return None
        del self._owed[device]
        return rounds.Served(device)
