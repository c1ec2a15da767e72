"""`impasto-coordinator assist` in a process of its own, and `impasto generate --assist`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.cli import main
from edge_sdk.device import Assist, Assistance, Device
from edge_sdk.errors import ImpastoError
from edge_sdk.transport.embedded import EmbeddedBroker
from tests.assist.federation import Federation, learn_together
from tests.models import tiny_bundle

ARGUMENTS: dict[str, Any] = {"seed": 5, "steps": 6, "scheduler": "dpm++", "adapters": {"root": 1.0, "cluster": 1.0}}


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with EmbeddedBroker() as broker:
        yield learn_together(tmp_path_factory.mktemp("federation"), broker.url)


class Process:
    """A helper in a process of its own, and what it prints."""

    def __init__(self, federation: Federation, *options: str) -> None:
        command = [sys.executable, "-m", "coordinator.cli", "assist", str(federation.file), "--name", "desk-1"]
        self.process = subprocess.Popen(
            [*command, "--threads", "1", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.said: list[str] = []

    def wait_for(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if text in line:
                return
        raise AssertionError(f"it ended: {self.said}")

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        assert self.process.stdout is not None
        self.said += self.process.stdout.readlines()
        self.process.stdout.close()
        return self.process.wait(60)


@contextmanager
def process(federation: Federation, *options: str) -> Iterator[Process]:
    made = Process(federation, *options)
    try:
        made.wait_for("desk-1 draws for devices")
        yield made
    finally:
        if made.process.poll() is None:
            made.end(signal.SIGKILL)


def test_it_helps_until_it_is_killed(federation: Federation, tmp_path: Path) -> None:
    device = Device(bundle=tiny_bundle(), home=federation.home, threads=1)
    alone = np.asarray(device.generate("a red fox", **ARGUMENTS), np.float32)
    came: list[Assistance] = []

    def drawn(waits: Callable[[], None]) -> float:
        wish = Assist(federation.broker, form="open", steps=3)

        def on_step(step: int, of: int, latents: Any) -> None:
            if step == 1:
                waits()

        picture = device.generate("a red fox", **ARGUMENTS, assist=wish, on_assist=came.append, on_step=on_step)
        return float(np.abs(np.asarray(picture, np.float32) - alone).max()) / 255

    events = tmp_path / "events.jsonl"
    with process(federation, "--events", str(events), "--metrics", "0") as helper:
        assert drawn(lambda: helper.wait_for("has them")) <= 1e-4
        assert helper.end(signal.SIGKILL) == -signal.SIGKILL
        assert drawn(lambda: None) == 0
    assert (came[0].by_helper, came[0].helper) == (3, "desk-1")
    assert came[1].by_helper == 0
    assert isinstance(came[1].reason, ImpastoError)
    assert '"event": "assist_delivered"' in events.read_text()


def test_it_ends_when_it_is_asked_to(federation: Federation) -> None:
    with process(federation) as helper:
        assert helper.end(signal.SIGTERM) == 0
        assert helper.said[-1] == "stopped\n"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["impasto", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
    out, err = capsys.readouterr()
    return int(end.value.code or 0), " ".join((out + err).split())


def test_a_picture_by_command(federation: Federation, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On one machine a device is about as fast as its helper: either may have been first, and the command says it."""
    out = tmp_path / "fox.png"
    options = ["generate", "a red fox", "-b", str(tiny_bundle()), "-o", str(out), "--home", str(federation.home)]
    options += ["-a", "root", "-a", "cluster", "--steps", "6", "--seed", "5", "--threads", "1"]
    with process(federation):
        code, said = run(capsys, *options, "--assist", "open", "--assist-steps", "5", "--broker", federation.broker)
    assert code == 0, said
    assert re.search(r"fox\.png in [\d.]+ s; (steps 1 to 5 by desk-1, 6 to 6 here|all 6 steps here \(\w+: )", said)
    assert out.is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--assist", "open"], "needs --home"),
        (["--assist", "open", "--home", "h", "-a", "root"], "needs --home"),
        (["--assist", "states", "--home", "h", "-a", "root", "--broker", "mqtt://b"], "choose open or blank"),
        (["--assist", "open", "--home", "h", "-a", "root", "--broker", "mqtt://b", "--count", "2"], "one picture"),
        (["--assist", "open", "--home", "h", "-a", "root", "--broker", "mqtt://b", "--assist-steps", "x"], "or auto"),
        (["--broker", "mqtt://b"], "say --assist"),
    ],
)
def test_options_that_make_no_sense(capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    code, said = run(capsys, "generate", "a fox", "-b", str(tiny_bundle()), *options)
    assert code == 2
    assert message in said.replace("│ │ ", "")
