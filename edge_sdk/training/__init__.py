"""Fine-tuning on the device: torch and peft, imported only when this package is.

Raises:
    TrainingError: on import, if torch, diffusers, transformers or peft is not installed.
"""

from __future__ import annotations

from importlib.util import find_spec

from edge_sdk.errors import TrainingError
from edge_sdk.libraries import without_chatter

_missing = [name for name in ("torch", "diffusers", "transformers", "peft") if find_spec(name) is None]
if _missing:
    raise TrainingError(f'Training needs {", ".join(_missing)}. Install them with: pip install "impasto[train]"')

# The check above must come first.
with without_chatter():
    from edge_sdk.training.base_model import WeightsNotPrepared
    from edge_sdk.training.checkpoint import CheckpointUnwritten, TrainingPutAside, resumed
    from edge_sdk.training.encoding import image_size
    from edge_sdk.training.guard import Guard, Look, keep_back
    from edge_sdk.training.memory import Budget
    from edge_sdk.training.progress import Progress, TrainingResult
    from edge_sdk.training.rounds import train_round
    from edge_sdk.training.trainer import Trainer
    from edge_sdk.training.weights import choose_weights

__all__ = [
    "Budget",
    "CheckpointUnwritten",
    "Guard",
    "Look",
    "Progress",
    "Trainer",
    "TrainingPutAside",
    "TrainingResult",
    "WeightsNotPrepared",
    "choose_weights",
    "image_size",
    "keep_back",
    "resumed",
    "train_round",
]
