"""The demo's verdict: report.json's content, and the bars computed from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_rand_score

ARMS = ("base", "local", "federated")


@dataclass(frozen=True)
class Bar:
    """One bar: its name, the result, the bound, and whether it holds."""

    name: str
    shown: str
    wanted: str
    holds: bool


def make_report(
    *,
    seed: int,
    seconds: Mapping[str, float],
    rounds: int,
    up: int,
    down: int,
    devices: Sequence[Mapping[str, Any]],
    style_hit: Mapping[str, float],
    subject_hit: Mapping[str, float],
) -> dict[str, Any]:
    """The content of report.json. `devices`: {"id", "group", "cluster", "loss": {arm: loss}} each."""
    groups, clusters = [d["group"] for d in devices], [d["cluster"] for d in devices]
    return {
        "seed": seed,
        "seconds": {stage: round(s, 1) for stage, s in seconds.items()},
        "rounds": rounds,
        "bytes": {"up": up, "down": down},
        "clusters": {"ari": float(adjusted_rand_score(groups, clusters)), "k": len(set(clusters))},
        "loss": {arm: float(np.mean([d["loss"][arm] for d in devices])) for arm in ARMS},
        "judge": {"style_hit": dict(style_hit), "subject_hit": dict(subject_hit)},
        "devices": [{key: d[key] for key in ("id", "group", "cluster", "loss")} for d in devices],
    }


def bars(report: Mapping[str, Any]) -> list[Bar]:
    """The bars that a demo must reach, computed from its report alone."""
    loss, style = report["loss"], report["judge"]["style_hit"]
    devices = report["devices"]
    better = sum(d["loss"]["federated"] < d["loss"]["local"] for d in devices)
    return [
        Bar(
            "Clusters found = hidden tastes",
            f"ARI {report['clusters']['ari']:.2f}",
            "at least 0.9",
            report["clusters"]["ari"] >= 0.9,
        ),
        Bar(
            "Held-out loss",
            f"{loss['base']:.3f} → {loss['local']:.3f} → {loss['federated']:.3f}",
            "together < alone < base",
            loss["federated"] < loss["local"] < loss["base"],
        ),
        Bar(
            "Devices better off together",
            f"{better} of {len(devices)}",
            "at least 3 of 4",
            4 * better >= 3 * len(devices),
        ),
        Bar(
            "Pictures in the device's style",
            f"{style['base']:.0%} → {style['local']:.0%} → {style['federated']:.0%}",
            "together at least twice the base",
            style["federated"] >= 2 * style["base"] and style["federated"] > 0,
        ),
    ]
