"""Ctrl-C and SIGTERM: a training is saved after its present step, and the process ends by the signal."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk.training.checkpoint import steps_done
from tests.models import tiny_model
from tests.training.samples import write_squares

# `impasto train`, which sends itself the signal in its second step.
_COMMAND = """
import os, sys
from edge_sdk import cli
from edge_sdk.training import trainer
number, *sys.argv[1:] = sys.argv[1:]
usual = trainer.Trainer._gradients
calls = []
def gradients(*given):
    calls.append(given)
    if len(calls) == 2:
        os.kill(os.getpid(), int(number))
    return usual(*given)
trainer.Trainer._gradients = gradients
cli.main()
"""


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_training_is_saved_after_its_present_step_and_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    pictures, out = write_squares(tmp_path / "pictures", 4), tmp_path / "leaf.safetensors"
    asked = ["train", pictures, "-m", tiny_model(), "-o", out, "--steps", 3, "--rank", 2, "--threads", 1]
    stopped = run(_COMMAND, int(number), *asked)
    assert stopped.returncode == -number, stopped.stderr
    assert "stopping after this step; once more ends at once" in stopped.stderr
    assert "run the same command again to go on" in stopped.stderr
    checkpoint = Path(f"{out}.checkpoint")
    assert steps_done(checkpoint) == 2
    assert not out.exists()
    done = run("from edge_sdk import cli; cli.main()", *asked)
    assert done.returncode == 0, done.stderr
    assert "3 steps" in done.stdout
    assert not checkpoint.exists()


_ONCE_AND_AGAIN = """
import os, signal, sys, threading
from edge_sdk.cli.interruption import Interruption
stopped = threading.Event()
with Interruption("leaving", stopped.set) as interruption:
    os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.wait(60) and interruption.asked
    if sys.argv[1] == "again":
        os.kill(os.getpid(), signal.SIGTERM)
print("kept", flush=True)
interruption.end()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
@pytest.mark.parametrize(("again", "said"), [("once", "kept\n"), ("again", "")])
def test_the_second_signal_ends_at_once(again: str, said: str) -> None:
    done = run(_ONCE_AND_AGAIN, again)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, said, "leaving\n")
