"""The demo's verdict: report.json's content, and the bars computed from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samples.stickers.judge import Verdict

ARMS = ("base", "local", "federated")
SHARES = ("both_hit", "style_hit", "subject_hit")
TOGETHER = "Such pictures, together over alone"


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
    verdicts: Mapping[str, Verdict],
    real: float,
) -> dict[str, Any]:
    """The content of report.json.

    Args:
        devices: {"id", "group", "cluster", "loss": {arm: loss}} each.
        verdicts: arm -> what the judge finds in its pictures.
        real: the share of real pictures of these styles in which the judge finds style and subject.
    """
    # scikit-learn takes seconds to import, for which a demo need not wait at its start.
    from sklearn.metrics import adjusted_rand_score

    groups, clusters = [d["group"] for d in devices], [d["cluster"] for d in devices]
    return {
        "seed": seed,
        "seconds": {stage: round(s, 1) for stage, s in seconds.items()},
        "rounds": rounds,
        "bytes": {"up": up, "down": down},
        "clusters": {"ari": float(adjusted_rand_score(groups, clusters)), "k": len(set(clusters))},
        "loss": {arm: float(np.mean([d["loss"][arm] for d in devices])) for arm in ARMS},
        "judge": {
            what: {arm: getattr(verdicts[arm], what) for arm in ARMS}
            for what in ("both_hit", "style_hit", "subject_hit")
        },
        "judge_on_real": real,
        "devices": [{key: d[key] for key in ("id", "group", "cluster", "loss")} for d in devices],
    }


def bars(report: Mapping[str, Any]) -> list[Bar]:
    """The bars that a demo must reach, computed from its report alone."""
    loss, both, real = report["loss"], report["judge"]["both_hit"], report["judge_on_real"]
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
            "Pictures with subject and style as asked",
            f"{both['base']:.0%} → {both['local']:.0%} → {both['federated']:.0%}",
            f"together at least {real / 2:.0%}, half of what the judge finds in real ones",
            both["federated"] >= real / 2,
        ),
        Bar(
            TOGETHER,
            f"{both['federated'] / both['local']:.2f} x" if both["local"] else f"{both['federated']:.0%} against none",
            "at least 1.2 x",
            both["federated"] >= 1.2 * both["local"] and both["federated"] > 0,
        ),
    ]
