from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge_sdk import adapter as adapters
from edge_sdk.adapter import Share
from edge_sdk.errors import CheckpointError
from edge_sdk.membership import RoundPlan
from edge_sdk.training import CheckpointUnwritten, Progress, Trainer, train_round
from tests.models import tiny_model
from tests.training.samples import squares

STEPS = 8
# Kills itself in the callback of step 5; the last checkpoint then is of step 5 or, where saving is rare, of none.
KILLED = """
import os, signal, sys
from pathlib import Path
from edge_sdk.training import Trainer
from tests.training.samples import squares

def kill(progress):
    if progress.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

trainer = Trainer(Path(sys.argv[1]), squares(6), rank=4, threads=1)
trainer.train(steps=8, on_step=kill, checkpoint=sys.argv[2], checkpoint_seconds=0)
"""


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer(tiny_model(), squares(6), rank=4, threads=1)


def test_a_training_killed_at_any_moment_ends_like_an_uninterrupted_one(trainer: Trainer, tmp_path: Path) -> None:
    checkpoint = tmp_path / "state.safetensors"
    # A write that was cut off by an earlier kill lies beside the checkpoint and must not matter.
    (tmp_path / ".state.safetensors.part").write_bytes(b"half a checkpoint")
    arguments = [sys.executable, "-c", KILLED, str(tiny_model()), str(checkpoint)]
    killed = subprocess.run(arguments, capture_output=True, text=True, timeout=240)
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    steps: list[int] = []
    resumed = trainer.train(steps=STEPS, checkpoint=checkpoint, on_step=lambda progress: steps.append(progress.step))
    uninterrupted = trainer.train(steps=STEPS)
    assert steps == [6, 7, 8]
    assert resumed.steps == STEPS
    assert replace(resumed.stats, train_seconds=0) == replace(uninterrupted.stats, train_seconds=0)
    assert adapters.to_bytes(resumed.adapter) == adapters.to_bytes(uninterrupted.adapter)


def test_a_finished_training_is_read_back_and_can_be_extended(trainer: Trainer, tmp_path: Path) -> None:
    checkpoint = tmp_path / "state.safetensors"
    first = trainer.train(steps=3, checkpoint=checkpoint)
    again = trainer.train(steps=3, checkpoint=checkpoint)
    assert adapters.to_bytes(again.adapter) == adapters.to_bytes(first.adapter)
    extended = trainer.train(steps=5, checkpoint=checkpoint)
    assert adapters.to_bytes(extended.adapter) == adapters.to_bytes(trainer.train(steps=5).adapter)


def test_a_checkpoint_of_another_training_is_refused_and_kept(trainer: Trainer, tmp_path: Path) -> None:
    checkpoint = tmp_path / "state.safetensors"
    first = trainer.train(steps=1, checkpoint=checkpoint).adapter
    content = checkpoint.read_bytes()
    with pytest.raises(CheckpointError, match="another training"):
        trainer.train(steps=1, seed=1, checkpoint=checkpoint)
    with pytest.raises(CheckpointError, match="another training"):
        trainer.train(steps=1, start=first, checkpoint=checkpoint)
    with pytest.raises(CheckpointError, match="another training"):
        trainer.train(steps=1, frozen=[(first, 1.0)], checkpoint=checkpoint)
    assert checkpoint.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_damaged_checkpoint_is_named(trainer: Trainer, tmp_path: Path, content: bytes) -> None:
    checkpoint = tmp_path / "state.safetensors"
    checkpoint.write_bytes(content)
    with pytest.raises(CheckpointError, match="Delete it"):
        trainer.train(steps=1, checkpoint=checkpoint)


def test_the_training_of_a_round_goes_on_for_as_long_as_there_is_time_now(trainer: Trainer, tmp_path: Path) -> None:
    checkpoint = tmp_path / "training-x.checkpoint"
    plan = RoundPlan(
        round=1, rounds=1, stage="root", cluster=None, frozen=(), start=None, share=Share.BOTH, rank=4, seed=0,
        steps=6, batch_size=2, learning_rate=1e-3, deadline=60.0, checkpoint=checkpoint,
    )  # fmt: skip
    trainer.train(steps=3, rank=4, seed=0, batch_size=2, learning_rate=1e-3, checkpoint=checkpoint)
    steps: list[int] = []

    def note(progress: Progress) -> None:
        steps.append(progress.step)

    train_round(trainer, plan, minutes=1e-6, on_step=note)  # what was spent before does not count
    assert steps == [4]
    train_round(trainer, plan, minutes=10, on_step=note)
    assert steps == [4, 5, 6]
    checkpoint.write_bytes(b"damaged")
    train_round(trainer, plan, on_step=note)
    assert steps == [4, 5, 6, 1, 2, 3, 4, 5, 6]


def test_a_checkpoint_that_cannot_be_written_costs_nothing(trainer: Trainer, tmp_path: Path) -> None:
    """This holds for the last step, too: a training of hours was lost when the disk was full at its end."""
    (tmp_path / "file").write_text("")
    checkpoint = tmp_path / "file" / "state.safetensors"  # no folder can be made there
    with pytest.warns(CheckpointUnwritten, match=f"{checkpoint} cannot be written"):
        trained = trainer.train(steps=3, checkpoint=checkpoint)
    assert adapters.to_bytes(trained.adapter) == adapters.to_bytes(trainer.train(steps=3).adapter)
