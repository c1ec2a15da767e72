"""Deliveries of adapters: which device has stored which adapter, and which devices have all of them."""

from __future__ import annotations

from coordinator import rounds
from coordinator.runner import Runner
from coordinator.telemetry import Reports
from edge_sdk.wire import Finished, Manifest


class Deliveries:
    """Final adapters that devices have not yet acknowledged with Committed.

    Args:
        runner: is fed Served when a device has all of its adapters.
        report: reports every adapter that a device has stored.
    """

    def __init__(self, runner: Runner, report: Reports) -> None:
        self._runner = runner
        self._report = report
        self._owed: dict[str, set[str]] = {}

    def begin(self, device: str, finished: Finished) -> rounds.Event | None:
        """Note the adapters that a device's Finished names; return Served if there are none."""
        self._owed[device] = {manifest.sha256 for manifest in finished.manifests}
        return self._served(device)

    def stored(self, device: str, manifest: Manifest) -> None:
        """Note that a device has stored an adapter."""
        self._report("adapter_delivered", device=device, name=manifest.name, size=manifest.size)
        if device not in self._owed:
            return
        self._owed[device].discard(manifest.sha256)
        if served := self._served(device):
            self._runner.feed(served)

    def forget(self, device: str) -> None:
        """Forget a device."""
        self._owed.pop(device, None)

    def _served(self, device: str) -> rounds.Event | None:
        if self._owed[device]:
            return None
        del self._owed[device]
        return rounds.Served(device)
