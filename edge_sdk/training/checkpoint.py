"""Training state on disk: one safetensors file that is always complete, and names the run that it belongs to."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import safetensors
import torch
from safetensors.torch import save as _serialize
from torch import Tensor, nn

from edge_sdk import durable
from edge_sdk.errors import CheckpointError, CheckpointForeign, describe
from edge_sdk.training.guard import Look

_FORMAT = "impasto training 1"
_BEST = "best"
_Result = TypeVar("_Result")


class CheckpointUnwritten(UserWarning):
    """The checkpoint of a training cannot be written: it goes on, but cannot be resumed from here."""


class TrainingPutAside(UserWarning):
    """An unfinished training is not resumed, because something was changed; its checkpoint is kept in another file."""


@dataclass
class State:
    """State from which a run resumes; everything else follows from its settings and the step number.

    Attributes:
        losses: loss of every step done so far; their number is the next step.
        seconds: time spent in training so far.
        looks: looks of the guard so far; none without a guard.
        best: the parameters at the best of the looks, by name.
    """

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    looks: list[Look] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)


def save_checkpoint(
    path: Path, run: str, state: State, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Write the state of run `run` beside `path`, sync it and rename it: a kill leaves the last complete checkpoint."""
    tensors = {"losses": torch.tensor(state.losses, dtype=torch.float64)}
    for name, parameter in parameters.items():
        tensors[f"parameter/{name}"] = parameter.detach()
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}/{name}"] = value
    tensors |= {f"{_BEST}/{name}": value for name, value in state.best.items()}
    looks = json.dumps([[look.step, look.held_out, look.prior] for look in state.looks])
    data = _serialize(tensors, {"format": _FORMAT, "run": run, "seconds": json.dumps(state.seconds), "looks": looks})
    durable.private_folder(path.parent)
    durable.write(path, data, private=True)


def keep_checkpoint(
    path: Path, run: str, state: State, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Save a checkpoint; if that fails, as on a full disk, warn with CheckpointUnwritten and let the training go on."""
    try:
        save_checkpoint(path, run, state, parameters, optimizer)
    except OSError as error:
        warnings.warn(
            f"The checkpoint {path} cannot be written ({describe(error)}): the training goes on, but could not be "
            "resumed from here. Make room on the disk, or see to the folder's rights.",
            CheckpointUnwritten,
            stacklevel=2,
        )


def load_checkpoint(
    path: Path, run: str, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> State:
    """Restore parameters and optimizer from the checkpoint; without a file, return the state of a new run.

    Raises:
        CheckpointError: the file is damaged.
        CheckpointForeign: it belongs to a run with other settings, pictures or adapters.
    """
    if not path.exists():
        return State()
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"The checkpoint {path} cannot be read ({error}). Delete it to start again.") from error
    if metadata.get("format") != _FORMAT or metadata.get("run") != run:
        raise CheckpointForeign(
            f"The checkpoint {path} belongs to another training (other pictures, settings or adapters). "
            "Delete it to start again, or give the same arguments as before."
        )
    for name, parameter in parameters.items():
        parameter.data.copy_(tensors.pop(f"parameter/{name}"))
    state = State(tensors.pop("losses").tolist(), json.loads(metadata["seconds"]))
    state.looks = [Look(*values) for values in json.loads(metadata.get("looks", "[]"))]
    for key, value in tensors.items():
        kind, _, name = key.partition("/")
        if kind == _BEST:
            state.best[name] = value
        else:
            optimizer.state[parameters[name]][kind] = value
    return state


def steps_done(path: Path) -> int:
    """Number of steps that the training of a checkpoint has done; 0 if there is none that can be read."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return int(file.get_slice("losses").get_shape()[0])
    except (OSError, safetensors.SafetensorError):
        return 0


def seconds_spent(path: Path) -> float:
    """Seconds that the training of a checkpoint has taken so far; 0 if there is none that can be read."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return float(json.loads((file.metadata() or {})["seconds"]))
    except (OSError, KeyError, ValueError, safetensors.SafetensorError):
        return 0.0


def resumed(train: Callable[[], _Result], path: Path | None, aside: Path | None = None) -> _Result:
    """Resume from the checkpoint if it is of this training, else begin anew.

    Args:
        train: the training, which raises CheckpointError for a checkpoint that it cannot resume from.
        path: the checkpoint; None if there is none.
        aside: file to which the checkpoint of another training is moved, with a TrainingPutAside warning; None deletes
            it. A damaged checkpoint is deleted.
    """
    try:
        return train()
    except CheckpointError as error:
        if path is None:
            raise
        if aside is not None and isinstance(error, CheckpointForeign):
            steps, seconds = steps_done(path), seconds_spent(path)
            path.replace(aside)
            warnings.warn(
                f"There was an unfinished training of {steps} steps ({seconds:.0f} s), of other pictures, settings or "
                f"adapters: this one begins anew, and that one is kept in {aside}. To go on with it, undo what was "
                f"changed and rename the file to {path.name}.",
                TrainingPutAside,
                stacklevel=3,
            )
        else:
            path.unlink()
        return train()
