"""Audit and bars of benchmarks.chaos."""

from __future__ import annotations

import itertools
import json
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks.chaos import bars, draw
from benchmarks.network.chaos_audit import Committed, Counted, audit, read_committed, read_log, resumed_after
from edge_sdk.membership.journal import Journal
from edge_sdk.wire.messages import Offer
from edge_sdk.wire.transfer import make_manifest

RESULTS = Path("benchmarks/results/chaos.json")


def _device(sha256: str = "s1", **changes: Any) -> list[dict[str, Any]]:
    events = {
        "made": {"round": 1, "sha256": sha256},
        "trained": {"round": 1},
        "update_committed": {"round": 1},
        "round_done": {"round": 1, "accepted": True},
        "done": {},
    }
    return [{"event": name, **values, **changes.get(name, {})} for name, values in events.items()]


def _coordinator(updates: int = 1) -> list[dict[str, Any]]:
    counted = {"event": "update_counted", "round": 1, "device": "a"}
    return [counted, {"event": "round_closed", "round": 1, "updates": updates}]


ROW = Counted(1, "a", "s1")
HELD = [Committed(1, "s1")]


def test_a_run_without_fault_has_nothing_wrong() -> None:
    found = audit([ROW], _coordinator(), {"a": _device()}, {"a": HELD}, 1)
    assert (found.committed, found.rounds) == (1, 1)
    assert found.lost == found.double == found.stuck == found.twice == found.backwards == []


@pytest.mark.parametrize(
    ("kind", "rows", "coordinator", "device", "rounds"),
    [
        ("lost", [], _coordinator(0), _device(), 1),
        ("lost", [ROW], _coordinator(), _device("s2"), 1),
        ("lost", [ROW], _coordinator(2), _device(), 1),
        ("lost", [ROW], _coordinator(), _device(round_done={"accepted": False}), 1),
        ("double", [ROW, Counted(2, "a", "s1")], _coordinator(), _device(), 1),
        ("double", [ROW], [*_coordinator()[:1], *_coordinator()], _device(), 1),
        ("stuck", [ROW], _coordinator(), _device()[:-1], 1),
        ("stuck", [ROW], _coordinator(), _device(), 2),
        ("twice", [ROW], _coordinator(), [*_device()[:2], *_device()], 1),
        ("backwards", [ROW], [*_coordinator(), _coordinator()[1]], _device(), 1),
    ],
)
def test_what_is_wrong_is_found(kind: str, rows: Any, coordinator: Any, device: Any, rounds: int) -> None:
    found = audit(rows, coordinator, {"a": device}, {}, rounds)
    wrong = {name for name in ("lost", "double", "stuck", "twice", "backwards") if getattr(found, name)}
    assert wrong == {kind}


@pytest.mark.parametrize("rows", [[], [Counted(1, "b", "s1")], [Counted(1, "a", "s2")]])
def test_what_a_journal_holds_as_committed_must_count(rows: list[Counted]) -> None:
    found = audit(rows, [], {}, {"a": HELD}, 0)
    assert len(found.lost) == 1
    assert "a holds s1 as committed" in found.lost[0]


def test_a_journal_is_read(tmp_path: Path) -> None:
    assert read_committed(tmp_path / "journal.sqlite") == []
    hashes = []
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        for number, progress in ((1, "committed"), (2, "refused"), (3, "offered"), (4, "committed")):
            data = bytes([number])
            made = make_manifest(data, "update", "update")
            offer = Offer(
                round=number, attempt=number, manifest=made, pictures=1, first_loss=1, last_loss=1, train_seconds=1
            )
            journal.keep_update(f"plan {number}", offer, data)
            journal.note(f"plan {number}", progress)  # type: ignore[arg-type]
            hashes.append(made.sha256)
        # While the device lives, or after it was killed.
        assert read_committed(tmp_path / "journal.sqlite") == [Committed(1, hashes[0]), Committed(4, hashes[3])]


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text('{"event": "a"}\n{"event": "b", "x{"event": "c"}\n{"event": "d"')
    assert [event["event"] for event in read_log(log)] == ["a", "c"]
    assert read_log(tmp_path / "none") == []


def test_time_to_resume_is_that_to_the_next_step() -> None:
    log = [
        {"event": name, "time": time} for name, time in (("coordinator_started", 3), ("clusters", 5), ("refused", 9))
    ]
    assert resumed_after([1.0, 4.0, 8.0], [], log) == [4.0, 1.0]
    assert resumed_after([1.0], [1.0, 2.0], log) == []


def test_strikes_follow_from_the_seed() -> None:
    one, other = Random(3), Random(3)
    strikes = [draw(one, 20) for _ in range(300)]
    assert strikes == [draw(other, 20) for _ in range(300)]
    assert {strike.what for strike in strikes} == {
        "device",
        "coordinator",
        "broker",
        "devices' lines",
        "coordinator's line",
    }
    assert {strike.device for strike in strikes} == set(range(20))


def test_bars_are_computed_from_rows() -> None:
    names = ("lost", "double", "stuck", "trained twice", "backwards", "ended badly")
    row = {"part": "audit", "devices": 20, "rounds": 12, **dict.fromkeys(names, 0), "lost": 1}
    resume = {"part": "resume", "who": "coordinator", "kills": 3, "median_s": 2.0, "worst_s": 6.0}
    found = bars([row, resume, {**resume, "who": "broker", "kills": 0}])
    assert [bar.name for bar in itertools.filterfalse(lambda bar: bar.holds, found)] == [
        "lost",
        "seconds to resume after a kill of the coordinator, worst",
    ]
    assert len(found) == 9


def test_committed_results_give_the_committed_bars() -> None:
    content = json.loads(RESULTS.read_text("utf-8"))
    found = [(bar.name, bar.value, bar.holds) for bar in bars(content["rows"])]
    assert found == [(bar["name"], bar["value"], bar["holds"]) for bar in content["bars"]]
