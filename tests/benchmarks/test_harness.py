"""Arguments, bars and the file of results, which all benchmarks share."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from benchmarks.shared.harness import Arguments, Bar, Report, arguments, machine


def test_arguments() -> None:
    assert arguments("what it measures", []) == Arguments(quick=False, seed=0, json=None)
    given = ["--quick", "--seed", "3", "--json", "out.json"]
    assert arguments("what it measures", given) == Arguments(quick=True, seed=3, json=Path("out.json"))
    given = ["--sheet", "out.png"]
    assert arguments("what it measures", given, sheet=True) == Arguments(False, 0, None, Path("out.png"))
    with pytest.raises(SystemExit):
        arguments("what it measures", [*given, "--quick"], sheet=True)
    with pytest.raises(SystemExit):
        arguments("what it measures", given)


@pytest.mark.parametrize(
    ("bar", "holds"),
    [
        (Bar("time", 0.5, 0.6), True),
        (Bar("time", 0.6, 0.6), True),
        (Bar("time", 0.61, 0.6), False),
        (Bar("time", float("nan"), 0.6), False),
        (Bar("hits", 0.8, 0.8, "at least"), True),
        (Bar("hits", 0.79, 0.8, "at least"), False),
        (Bar("hits", float("nan"), 0.8, "at least"), False),
    ],
)
def test_whether_a_bar_holds_is_computed(bar: Bar, holds: bool) -> None:
    assert bar.holds is holds


def test_results_are_shown_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(Arguments(quick=True, seed=4, json=tmp_path / "new" / "results.json"), seeds=[4, 5])
    report.rows += [{"model": "small", "seconds": 1.23456}, {"model": "large", "seconds": None}, {"other": 1}]
    report.bars.append(Bar("seconds", 1.23456, 1.0))
    report.finish()
    shown = capsys.readouterr().out
    assert "small" in shown
    assert "1.235" in shown
    assert "fails  seconds: 1.235, at most 1" in shown
    written = json.loads((tmp_path / "new" / "results.json").read_text("utf-8"))
    assert set(written) == {"command", "date", "machine", "seeds", "rows", "bars"}
    assert written["seeds"] == [4, 5]
    assert written["rows"] == [dict(row) for row in report.rows]
    assert written["bars"] == [{"name": "seconds", "value": 1.23456, "bar": 1.0, "kind": "at most", "holds": False}]


def test_nothing_is_written_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Report(Arguments(quick=True, seed=0, json=None), seeds=[0]).finish()
    assert not any(tmp_path.iterdir())


def test_the_machine_is_described_without_its_name() -> None:
    found = machine()
    assert {"processor", "cores", "system", "python", "onnxruntime"} <= set(found)
    assert isinstance(found["cores"], int)
    assert platform.node() not in json.dumps({key: value for key, value in found.items() if key != "processor"})


def test_committed_results_name_the_command_that_anybody_can_type() -> None:
    files = sorted((Path(__file__).parents[2] / "benchmarks" / "results").glob("*.json"))
    assert files
    for file in files:
        command = json.loads(file.read_text("utf-8"))["command"]
        assert command.startswith(f"python -m benchmarks.{file.stem} "), file.name
        assert f"--json benchmarks/results/{file.name}" in command
