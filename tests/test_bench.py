"""`impasto bench`: every part in a process of its own, by tiny models; what fails is noted, and the rest goes on."""

from __future__ import annotations

import getpass
import io
import json
import platform
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from edge_sdk import cli
from edge_sdk.cli.bench import drawing, parts, report, running
from edge_sdk.cli.bench.child import Lines
from edge_sdk.errors import DeadlineExceeded, ImpastoError, OutOfMemory
from edge_sdk.inference.bundle.index import hash_files, write_index
from edge_sdk.inference.runtime import prepare
from tests.inference.graphs import write_bundle
from tests.models import tiny_bundle, tiny_model
from tests.transport.brokers import Mosquitto


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IMPASTO_CACHE", str(tmp_path / "cache"))


def bench(*arguments: object) -> Result:
    few = ("--steps", 3, "--pictures", 2, "--training-steps", 2, "--threads", 1)
    return CliRunner().invoke(cli.app, ["bench", *map(str, (*arguments, *few))])


def test_a_row_holds_times_memory_and_the_machine_and_nothing_of_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "row.json"
    done = bench("-b", tiny_bundle(), "-m", tiny_model(), "--json", file)
    assert done.exit_code == 0, done.output
    text = file.read_text("utf-8")
    row = json.loads(text)
    for private in (getpass.getuser(), platform.node(), str(tmp_path), str(tiny_bundle()), str(Path.home())):
        assert f'"{private}' not in text
    assert row["format"] == 1
    assert row["machine"]["versions"]["python"] == platform.python_version()
    assert {"processor", "cores", "usable_cores", "memory", "memory_limit"} < set(row["machine"])
    assert {"throttled", "temperatures", "power", "memory_limits"} < set(row["board"])
    assert set(row["board"]) == set(row["board_after"])
    assert len(row["base_id"]) == 64
    assert row["asked"]["broker"] == "on this machine"
    assert row["prepare"] == {"skipped": "the graphs are small, and drawn with as they are"}
    picture, training, transfer = row["picture"], row["training"], row["transfer"]
    assert picture["steps"] == 3
    assert len(picture["warm_seconds"]) == 2
    assert picture["cold_seconds"] > picture["opened_seconds"] > picture["imported_seconds"] > 0
    assert picture["cold_seconds"] > max(picture["warm_seconds"])
    assert training["steps"] == 2
    assert training["step_seconds"] > 0
    assert transfer["bytes"] > 1000
    assert len(transfer["seconds"]) == 3
    assert all(part["peak_memory"] > 20 << 20 for part in (picture, training, transfer))
    for said in ("cold", "s a step", "MB/s", "prepare: left out", str(file)):
        assert said in done.output


def test_a_given_broker_carries_the_adapter_and_parts_without_means_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "row.json"
    with Mosquitto(tmp_path) as broker:
        done = bench("-b", tiny_bundle(), "--broker", broker.url, "--json", file)
    assert done.exit_code == 0, done.output
    row = json.loads(file.read_text("utf-8"))
    assert row["asked"]["broker"] == "given"
    assert row["transfer"]["bytes_per_second"] > 0
    assert row["training"] == {"skipped": "no --model was given"}
    assert "training: left out, no --model was given" in done.output


def test_a_part_that_fails_is_noted_and_the_others_run(tmp_path: Path) -> None:
    file = tmp_path / "row.json"
    done = bench("-b", tiny_bundle(), "-m", tiny_model("epsilon"), "--backend", "nonsense", "--json", file)
    row = json.loads(file.read_text("utf-8"))
    assert row["picture"]["error"] == "ConfigurationError"
    assert row["training"]["error"] == "TrainingError"
    assert "the model that the bundle was made of" in row["training"]["reason"]
    assert "seconds" in row["transfer"]
    assert done.exit_code == 1
    assert "error: " in done.stderr


def test_what_is_missing_is_named_before_anything_runs(tmp_path: Path) -> None:
    nothing = bench("-b", tmp_path / "none")
    assert type(nothing.exception).__name__ == "BundleMissing"
    model = bench("-b", tiny_bundle(), "-m", tmp_path / "none")
    assert type(model.exception).__name__ == "BundleMissing"
    folder = bench("-b", tiny_bundle(), "--json", tmp_path)
    assert type(folder.exception).__name__ == "OutputError"
    assert bench("-b", tiny_bundle(), "--username", "me").exit_code == 2
    assert "name it with --broker" in bench("-b", tiny_bundle(), "--ca", "ca.pem").stderr


def test_preparing_is_a_part_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(prepare, "SMALL", 0)
    made, out = write_bundle(tmp_path / "bundle"), io.StringIO()
    settings = {"bundle": str(made.folder), "memory_limit": None}
    for name in ("scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt"):
        made.path(name).parent.mkdir(exist_ok=True)
        made.path(name).write_text("{}")
    made.path("tokenizer/tokenizer_config.json").write_text("{}")
    write_index(made.folder, replace(made.index, files=hash_files(made.folder)))
    first = drawing.prepare(settings, Lines(out))
    assert first["new"] == first["graphs"] == len(out.getvalue().splitlines()) == 4
    assert json.loads(out.getvalue().splitlines()[3])["progress"][:2] == [3, 4]
    again = drawing.prepare(settings, Lines(out))
    assert (again["new"], again["graphs"]) == (0, 4)
    with pytest.raises(parts.Skip, match="--memory-limit"):
        drawing.prepare({**settings, "memory_limit": "1GB"}, Lines(out))


def test_a_row_of_a_board_says_that_it_was_slowed_down() -> None:
    """By the numbers of no device: words only."""
    board = {"model": "Raspberry Pi 5 Model B Rev 1.0", "throttled": {"bits": "0x0", "now": [], "since_start": []}}
    slowed = {"bits": "0x50000", "now": [], "since_start": ["under-voltage", "throttled"]}
    row = {
        "machine": {"processor": "Cortex-A76", "usable_cores": 4, "memory": 8 << 30},
        "board": board,
        "board_after": board,
        "prepare": {"new": 1, "graphs": 4, "seconds": 1.0, "peak_memory": 10**6},
        "picture": {"error": "OutOfMemory", "reason": "why"},
        "training": {"skipped": "no --model was given"},
        "transfer": {"skipped": "why"},
    }
    first, *others = report.lines(row)
    assert first.startswith("Raspberry Pi 5 Model B Rev 1.0, 4 cores")
    assert others == [
        "prepare: 1 of 4 in 1.0 s; peak 1 MB",
        "picture: failed, OutOfMemory",
        "training: left out, no --model was given",
        "transfer: left out, why",
    ]
    *_, last = report.lines({**row, "board_after": {**board, "throttled": slowed}})
    assert "0x50000 (under-voltage, throttled)" in last


def end(part: str, monkeypatch: pytest.MonkeyPatch, code: str, deadline: float = 60.0) -> ImpastoError:
    """The error of a part whose process runs this code instead."""
    kept = sys.executable
    wrapped = running.subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        return wrapped([kept, "-c", code], **options)

    monkeypatch.setattr(running.subprocess, "Popen", start)
    outcome = running.run(part, {}, deadline, lambda *_: None)
    assert outcome.error is not None
    return outcome.error


def test_a_part_that_the_system_ends_lacked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    error = end("training", monkeypatch, f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    assert isinstance(error, OutOfMemory)
    assert "--batch-size" in str(error)


def test_a_part_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    error = end("picture", monkeypatch, "import threading; threading.Event().wait()", 0.5)
    assert isinstance(error, DeadlineExceeded)
    assert "--deadline" in str(error)


def test_a_part_that_breaks_says_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    error = end("picture", monkeypatch, "raise SystemError('no such luck')")
    assert "SystemError: no such luck" in str(error)


def test_help_teaches_every_part() -> None:
    said = CliRunner().invoke(cli.app, ["bench", "--help"]).output
    for name in (*parts.PARTS, "--json", "--broker", "row.json", "`train`"):
        assert name in said
