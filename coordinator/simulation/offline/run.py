"""The rounds of a federation file over a folder of devices, by `simulate` or, if the file says so, `simulate_ifca`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from coordinator.config import BaseModel, Federation, read_base_model
from coordinator.methods.clustering import IFCA
from coordinator.simulation import ChoosingDevice, Outcome, SimulatedDevice, simulate, simulate_ifca
from coordinator.simulation.offline.devices import OfflineDevice, open_devices
from coordinator.simulation.offline.folders import SETTINGS, Folder
from coordinator.simulation.offline.results import DeviceResult, Result, RoundResult
from edge_sdk.errors import ConfigurationError
from edge_sdk.inference import compute_base_id
from edge_sdk.membership import RoundPlan
from edge_sdk.training import Progress

# Settings that only a serving coordinator uses.
_UNUSED = frozenset(
    (
        "broker",
        "ca",
        "certificate",
        "key",
        "username",
        "password_file",
        "bandwidth",
        "keepalive",
        "join",
        "home",
        "database",
        "blobs",
        "description",
    )
)
Tell = Callable[[str, Mapping[str, Any]], None]
"""Receives every event of the simulation as it happens, and

    device_opened   device
    device_judged   device, loss; first of the base model, at the end with the adapters
    step            device, round, stage, step, steps, loss
"""


@dataclass(frozen=True)
class Run:
    """An offline run.

    Attributes:
        federation: the federation file.
        folders: the devices' folders.
        model: the diffusers folder that the federation's bundle was exported from.
        threads: CPU threads for training; None: torch's choice.
    """

    federation: Federation
    folders: Sequence[Folder]
    model: Path
    threads: int | None = None

    def start(self, tell: Tell) -> tuple[Result, dict[str, Outcome]]:
        """Train, aggregate and evaluate; return the result, and each device's outcome. Writes nothing.

        Raises:
            ConfigurationError: the base model is not the bundle's, or devices and method do not fit together.
            TrainingError, BundleError, PictureError: see `open_devices` and `Trainer.train`.
        """
        base = self._checked_base()
        devices = self._open(tell)
        before = {name: _judged(device, None, tell) for name, device in devices.items()}
        book = _Book(tell)
        outcomes = self._simulate(base, devices, book.take)
        after = {name: _judged(device, outcomes[name], tell) for name, device in devices.items()}
        results = {
            name: DeviceResult(
                cluster=outcomes[name].cluster,
                pictures=device.profile.pictures,
                held_out=len(device.folder.held_out),
                max_rank=device.profile.max_rank,
                loss_before=before[name],
                loss_after=after[name],
                bytes_up=outcomes[name].bytes_up,
                bytes_down=outcomes[name].bytes_down,
            )
            for name, device in devices.items()
        }
        settings = msgspec.to_builtins(self.federation, enc_hook=str)
        used = {key: value for key, value in settings.items() if key not in _UNUSED}
        return Result(federation=used, base_id=base.base_id, devices=results, rounds=book.rounds), outcomes

    def _checked_base(self) -> BaseModel:
        settings = self.federation
        if not settings.bundle:
            raise ConfigurationError(
                "A simulation needs `bundle` in the federation file, not `slots`: its text encoder makes prompt codes."
            )
        if not settings.aggregator.mixed_ranks:
            for folder in self.folders:
                if folder.max_rank < settings.rank:
                    raise ConfigurationError(
                        f"{folder.path / SETTINGS}: max_rank = {folder.max_rank}, but [aggregation] method "
                        f"= {settings.aggregation.method!r} needs rank {settings.rank} of every device: raise it, or "
                        "choose a method that mixes ranks."
                    )
        base = read_base_model(settings.description, settings.layers)
        found = compute_base_id(self.model)
        if found != base.base_id:
            raise ConfigurationError(
                f"{self.model} is not the base model that {settings.bundle} was exported from ({found[:12]}… and "
                f"{base.base_id[:12]}…): name that one with --model, or export this one."
            )
        return base

    def _open(self, tell: Tell) -> dict[str, OfflineDevice]:
        def on_step(device: str, plan: RoundPlan, progress: Progress) -> None:
            progress_of_round = {"round": plan.round, "stage": plan.stage, "step": progress.step, "steps": plan.steps}
            tell("step", {"device": device, **progress_of_round, "loss": progress.loss})

        settings, devices = self.federation, {}
        assert settings.bundle, "it was checked"
        for device in open_devices(
            self.folders,
            model=self.model,
            bundle=settings.bundle,
            privacy=settings.privacy,
            seed=settings.seed,
            threads=self.threads,
            on_step=on_step,
        ):
            devices[device.folder.name] = device
            tell("device_opened", {"device": device.folder.name})
        return devices

    def _simulate(self, base: BaseModel, devices: Mapping[str, OfflineDevice], tell: Tell) -> dict[str, Outcome]:
        if isinstance(self.federation.clustering, IFCA):
            choosing = {name: ChoosingDevice(d.profile, d.train, d.choose) for name, d in devices.items()}
            return simulate_ifca(self.federation, base, choosing, tell)
        plain = {
            name: SimulatedDevice(device.profile, device.train, code=device.code) for name, device in devices.items()
        }
        return simulate(self.federation, base, plain, tell)


class _Book:
    """Records the coordinator's events of each round, and passes them on."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.rounds: list[RoundResult] = []
        self._refused: dict[str, str] = {}
        self._assignment: dict[str, int] | None = None

    def take(self, event: str, values: Mapping[str, Any]) -> None:
        if event == "refused":
            self._refused[values["device"]] = values["code"]
        elif event == "clusters":
            self._assignment = dict(values["assignment"])
        elif event == "round_closed":
            known = {key: values[key] for key in RoundResult.__struct_fields__ if key in values}
            known["refused"] = self._refused | values.get("refused", {})
            self.rounds.append(RoundResult(**known, assignment=self._assignment))
            self._refused, self._assignment = {}, None
        self._tell(event, values)


def _judged(device: OfflineDevice, outcome: Outcome | None, tell: Tell) -> float:
    """Return the device's loss with its final adapters; `outcome` None: of the base model alone."""
    adapters = outcome.adapters if outcome else {}
    loss = device.loss([adapters[role] for role in ("root", "cluster") if role in adapters])
    tell("device_judged", {"device": device.folder.name, "loss": loss})
    return loss
