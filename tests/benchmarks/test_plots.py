"""Plots and tables of a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.plots import draw
from benchmarks.report.federation import costs, scores


def _study() -> dict[str, Any]:
    def row(family: str, name: str, share: float, **more: Any) -> dict[str, Any]:
        figures = dict.fromkeys(("share_mean", "share_p10", "share_worst"), share)
        others = {
            "share_std": 0.0,
            "over_default": 0.0,
            "over_default_se": None,
            "seeds": 3,
            "worse_than_alone": 0.0,
            "style_hit": 0.5,
            "subject_hit": 0.5,
            "both_hit": 0.4,
            "both_p10": 0.2,
            "both_over_default": -0.1,
            "both_over_default_se": 0.02,
            "loss": 0.3,
        }
        return {"part": "row", "family": family, "row": name, **figures, **others, **more}

    cost = {
        "megabytes": 12.4, "rounds": 2, "rounds_to_90": 2, "megabytes_to_90": None, "rounds_to_global_fedit": 1,
        "ari": 1.0, "aggregation_error": None, "coordinator_s": 0.25,
    }  # fmt: skip
    run = {"base_curve": 0.6, "curve": [0.5, 0.4], "bytes_up": [1e6, 2e6], "bytes_down": [0, 1e6]}
    return {
        "rows": [
            row("bound", "alone", 0.4),
            row("aggregation", "product", 0.9, **cost),
            row("aggregation", "fedit", 0.8, **cost),
            {"part": "run", "row": "alone", "result": json.dumps({"loss": {}})},
            {"part": "run", "row": "product", "result": json.dumps(run)},
            {"part": "run", "row": "fedit", "result": json.dumps(run)},
        ]
    }


def test_equal_results_give_equal_pictures(tmp_path: Path) -> None:
    first, second = draw(_study(), tmp_path / "a"), draw(_study(), tmp_path / "b")
    assert [path.name for path in first] == ["federation-rounds.svg", "federation-scores.svg"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert b"<path" in one.read_bytes()


def test_bounds_have_scores_but_no_costs() -> None:
    assert [line.split("|")[2].strip() for line in scores(_study()).splitlines()[2:]] == ["alone", "product", "fedit"]
    found = [line.split("|") for line in costs(_study()).splitlines()[2:]]
    assert [[cell.strip() for cell in line[1:-1]] for line in found] == [
        ["aggregation", "product", "12", "2", "", "1", "1.00", "", "0.25 s"],
        ["", "fedit", "12", "2", "", "1", "1.00", "", "0.25 s"],
    ]
