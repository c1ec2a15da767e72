"""The pages of docs/benchmarks say what benchmarks/results holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import tables
from benchmarks.tables import PAGES, PARTS, measured, pages, rewritten


def _markers(name: str) -> str:
    return f"<!-- {name} -->\nold\n<!-- /{name} -->\n"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_the_committed_pages_are_what_the_command_makes(page: Path) -> None:
    text = page.read_text("utf-8")
    assert rewritten(text, page.stem) == text


def test_every_page_has_results_and_stands_in_the_index() -> None:
    assert sorted(PAGES.glob("*.md")) == sorted(pages())
    index = PAGES.with_suffix(".md").read_text("utf-8")
    assert all(f"]({PAGES.name}/{page.name})" in index for page in pages())
    results = {file.stem for file in tables.RESULTS.glob("*.json")}
    named = {line.split("|")[2].strip(" `") for line in index.splitlines() if line.startswith("| [")}
    assert named == results


def test_only_the_parts_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "PARTS", {"one": PARTS["inference: bars"], "two": ("none.json", tables.bars)})
    bar = {"name": "time", "value": 0.61234, "bar": 0.6, "kind": "at most", "holds": False}
    (tmp_path / "inference.json").write_text(json.dumps({"bars": [bar]}), "utf-8")
    found = rewritten(f"Before.\n{_markers('one')}Between.\n{_markers('other')}After.\n", "inference")
    assert found == (
        "Before.\n<!-- one -->\n| bar | value | bound | |\n| --- | --- | --- | --- |\n"
        "| time | 0.612 | at most 0.6 | **fails** |\n<!-- /one -->\nBetween.\n"
        "<!-- other -->\nold\n<!-- /other -->\nAfter.\n"
    )
    assert rewritten(found, "inference") == found
    assert rewritten(f"Before.\n{_markers('two')}After.\n", "none") == "Before.\n<!-- two -->\n<!-- /two -->\nAfter.\n"


def test_a_part_without_its_place_is_an_error() -> None:
    with pytest.raises(ValueError, match="must hold <!-- inference: machine -->"):
        rewritten("Nothing.\n", "inference")


def test_a_row_that_cannot_says_so_and_one_that_was_not_measured_too() -> None:
    step = {"part": "step", "shape": "s", "row": "other", "adapters": 0, "batch": 1}
    rows = [
        {**step, "step_s": 1.234, "step_error": 1e-6, "load_s": 2.0, "peak_mb": 30.0, "anonymous_peak_mb": 20.0},
        {**step, "adapters": 1, "batch": 2, "note": "cannot: no adapters"},
        {"part": "step", "shape": "t", "row": "other", "note": "not measured: time was up"},
    ]
    assert tables.steps({"rows": rows}).endswith("| other | 1.23 | not measured | cannot | not measured | | 1.0e-06 |")
    assert tables.loading({"rows": rows}).endswith(
        "| other | 2.00 s | | 20 (batch 1) | 30 | | cannot | not measured | |"
    )
    assert tables.missing({"rows": rows}) == "Not measured:\n\n- t, time was up: other"


def test_models_that_failed_have_a_line_too() -> None:
    rows = [
        {"model": "a", "title": "A", "unet_error": 1e-6, "drawn": 1, "switched": 1, "restored": 0},
        {"model": "b", "drawn": 0, "switched": 0, "restored": 0, "note": "export: killed"},
    ]
    exported, drawn = tables.models({"rows": rows}).split("\n\n")
    assert [line.split("|")[1].strip() for line in exported.splitlines()[2:]] == ["A", "b"]
    assert "| 1.0e-06 |" in exported
    assert [line.split("|")[-2].strip() for line in drawn.splitlines()[2:]] == ["**no**", "export: killed"]


def test_runs_of_other_machines_are_named() -> None:
    result = {
        "date": "2026-11-28",
        "machine": {"processor": "abacus", "cores": 2, "memory_gb": 1, "python": "3"},
        "rows": [
            {"part": "run", "result": json.dumps({"processor": name} if name else {})}
            for name in ("abacus", "slide rule", "", "slide rule")
        ],
    }
    assert measured(result).endswith("Of 4 runs 2 on slide rule.")
    assert measured({**result, "rows": []}).endswith("Python 3.")


def test_the_table_of_hybrids_has_ways_and_no_runs() -> None:
    way = {
        "way": "guide", "both_styles": 0.5, "weaker_share": 0.25, "subject_hit": 0.75, "both_and_subject": 0.375,
        "both_and_subject_se": 0.0125, "time_over_merge": 1.0,
    }  # fmt: skip
    found = tables.ways({"rows": [way, {"part": "run", "row": "a fox", "key": "k", "result": "{}"}]})
    assert found.splitlines()[2:] == ["| guide | 50% | 0.25 | 75% | 38% ± 1.2% | 1.00 |"]
