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
        self._begun: dict[str, tuple[int | None, frozenset[str]]] = {}  # session of the device, and all its adapters

    def begin(self, device: str, finished: Finished) -> rounds.Event | None:
        """Note the adapters that a device's Finished names; return Served if there are none.

        A Finished that is repeated in a session, as an answer to Hello, changes nothing: the device acknowledges each
        adapter once.
        """
        known = self._runner.state.devices.get(device)
        begun = known.epoch if known else None, frozenset(manifest.sha256 for manifest in finished.manifests)
        if device not in self._owed or self._begun.get(device) != begun:
            self._owed[device], self._begun[device] = set(begun[1]), begun
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
        self._begun.pop(device, None)

    def _served(self, device: str) -> rounds.Event | None:
        if self._owed[device]:
            return None
        self.forget(device)
        return rounds.Served(device)
