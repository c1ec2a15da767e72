"""out/demo/report.json and index.html, from the devices' results, the coordinator's events and the judge's scores."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from edge_sdk.adapter import load
from edge_sdk.inference import Generator
from samples.demo.bars import ARMS, Bar, bars, make_report
from samples.demo.charts import Line, Point, lines, scatter
from samples.demo.plan import DevicePlan
from samples.demo.settings import Settings
from samples.stickers.judge import CARD, FOLDER, Judge, Verdict
from samples.stickers.styles import STYLES

GROUP_COLOURS = ("#d9822b", "#2f2b28", "#b0457b", "#2b7a78", "#5566c4", "#7f9f2f")
CLUSTER_COLOURS = ("#8fb8ff", "#ffc46b", "#9adf9a", "#f39ab0", "#c9b2f0", "#c8c2ba")
SHOWN = 6
HYBRID_WEIGHT = 0.6


@dataclass(frozen=True)
class Outcome:
    """One device after the demo: its plan, its result.json, its folder."""

    plan: DevicePlan
    result: Mapping[str, Any]
    folder: Path

    def drawn(self, arm: str) -> list[Path]:
        return sorted((self.folder / "drawn" / arm).glob("*.png"))


def read_outcomes(settings: Settings, plans: Sequence[DevicePlan]) -> list[Outcome]:
    folders = [settings.device_folder(plan.id) for plan in plans]
    results = [json.loads((folder / "result.json").read_text("utf-8")) for folder in folders]
    return [Outcome(plan, result, folder) for plan, result, folder in zip(plans, results, folders, strict=True)]


def judge_all(outcomes: Sequence[Outcome]) -> dict[str, Verdict]:
    """The judge on the pictures of all devices, arm by arm."""
    judge, verdicts = Judge(), {}
    for arm in ARMS:
        pictures = [Image.open(file) for outcome in outcomes for file in outcome.drawn(arm)]
        asked = [tuple(wanted) for outcome in outcomes for _, wanted in outcome.result["asked"]]
        verdicts[arm] = judge.score(pictures, asked)
    return verdicts


def judge_on_real() -> float:
    """In how many real pictures of the devices' styles the judge finds style and subject, as its card says."""
    card = json.loads((FOLDER / CARD).read_text("utf-8"))
    return float(card["held_out"]["real"]["devices"]["both_hit"])


def draw_hybrid(settings: Settings, outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    """Pictures with two clusters' adapters, apart and together; None without two clusters that have an adapter."""
    first = outcomes[0]
    home = first.folder / "home"
    other = next((o for o in outcomes if o.result["cluster"] != first.result["cluster"]), None)
    if other is None or not all(_cluster_file(home, outcome).exists() for outcome in (first, other)):
        return None
    generator = Generator.load(settings.bundle)
    base = [(load(home / "root.safetensors"), 1.0)] if (home / "root.safetensors").exists() else []
    mine, theirs = (load(_cluster_file(home, outcome)) for outcome in (first, other))
    mixes = ([(mine, 1.0)], [(mine, HYBRID_WEIGHT), (theirs, HYBRID_WEIGHT)], [(theirs, 1.0)])
    words = STYLES[first.plan.group].words, STYLES[other.plan.group].words
    labels = (words[0], " and ".join(words), words[1])
    rows = []
    for seed, (text, _) in enumerate(first.result["asked"][:4]):
        subject = text.split(" of ", 1)[1]
        pictures = []
        for label, mix in zip(labels, mixes, strict=True):
            asked = f"{label} of {subject}"
            picture = generator.generate(
                asked,
                seed=seed,
                steps=settings.draw_steps,
                guidance=settings.guidance,
                adapters=[*base, *mix],
                hybrid="guide",
            )[0]
            file = settings.folder / "hybrid" / f"{seed}-{len(pictures)}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture.save(file)
            pictures.append(_source(file))
        rows.append({"text": subject, "pictures": pictures})
    return {"labels": labels, "weight": HYBRID_WEIGHT, "rows": rows}


def _cluster_file(home: Path, outcome: Outcome) -> Path:
    """File of an outcome's cluster adapter in any device's home folder."""
    return home / "clusters" / f"{outcome.result['cluster']}.safetensors"


def traffic(coordinator_events: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Bytes up and down, summed over restarts of the coordinator: it counts from 0 after each."""
    total = {"up": 0, "down": 0}
    for way in total:
        counts = [int(event["bytes"][way]) for event in coordinator_events]
        ends = [now for now, after in pairwise([*counts, 0]) if after < now]
        total[way] = sum(ends)
    return total["up"], total["down"]


def write(
    settings: Settings,
    outcomes: Sequence[Outcome],
    coordinator_events: Sequence[Mapping[str, Any]],
    seconds: Mapping[str, float],
    verdicts: Mapping[str, Verdict],
    hybrid: Mapping[str, Any] | None,
) -> tuple[dict[str, Any], list[Bar]]:
    """Write both files; return report.json's content and its bars."""
    up, down = traffic(coordinator_events)
    report = make_report(
        seed=settings.seed,
        seconds=seconds,
        rounds=settings.rounds,
        up=up,
        down=down,
        devices=[
            {"id": o.plan.id, "group": o.plan.group, "cluster": o.result["cluster"], "loss": o.result["loss"]}
            for o in outcomes
        ],
        verdicts=verdicts,
        real=judge_on_real(),
    )
    verdict = bars(report)
    (settings.folder / "report.json").write_text(json.dumps(report, indent=1), "utf-8")
    (settings.folder / "index.html").write_text(_page(report, verdict, outcomes, coordinator_events, hybrid), "utf-8")
    return report, verdict


def _page(
    report: Mapping[str, Any],
    verdict: Sequence[Bar],
    outcomes: Sequence[Outcome],
    events: Sequence[Mapping[str, Any]],
    hybrid: Mapping[str, Any] | None,
) -> str:
    groups = list(dict.fromkeys(o.plan.group for o in outcomes))
    colours = dict(zip(groups, GROUP_COLOURS, strict=False))
    clusters = sorted({o.result["cluster"] for o in outcomes})
    rings = {cluster: CLUSTER_COLOURS[i % len(CLUSTER_COLOURS)] for i, cluster in enumerate(clusters)}
    plane = [event["map"] for event in events if event["event"] == "clusters" and "map" in event][-1]
    points = [
        Point(
            f"{o.plan.id.removeprefix('device-')} {o.plan.group}",
            *plane[o.plan.id],
            colours[o.plan.group],
            rings[o.result["cluster"]],
        )
        for o in outcomes
    ]
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    figures = [("held-out loss", report["loss"], "{:.4f}")]
    figures += [(name.replace("_", " ") + " rate", rates, "{:.0%}") for name, rates in report["judge"].items()]
    return environment.get_template("report.html.j2").render(
        report=report,
        bars=verdict,
        map_svg=Markup(scatter(points)),
        loss_svg=Markup(
            lines(_curves(outcomes, groups, colours), "rounds", "held-out loss, share of the base model's")
        ),
        devices=[_device(o, colours[o.plan.group]) for o in outcomes],
        hybrid=hybrid,
        numbers=[(name, {arm: form.format(rates[arm]) for arm in ARMS}) for name, rates, form in figures],
    )


def _curves(outcomes: Sequence[Outcome], groups: Sequence[str], colours: Mapping[str, str]) -> list[Line]:
    """Mean loss of each group's devices as a share of their loss before they learned, by round."""
    curves = []
    for group in groups:
        members = [o for o in outcomes if o.plan.group == group]
        for arm, dashed in (("local", True), ("federated", False)):
            by_round: dict[int, list[float]] = {}
            for member in members:
                before = member.result["curve"]["local"][0][1]
                for number, loss in member.result["curve"][arm]:
                    by_round.setdefault(number, []).append(loss / before)
            means = [(float(number), float(np.mean(shares))) for number, shares in sorted(by_round.items())]
            curves.append(Line(group, means, colours[group], dashed))
    return curves


def _device(outcome: Outcome, colour: str) -> dict[str, Any]:
    own = [
        json.loads(line) for line in (outcome.folder / "pictures" / "metadata.jsonl").read_text("utf-8").splitlines()
    ]
    return {
        "id": outcome.plan.id,
        "group": outcome.plan.group,
        "colour": colour,
        "cluster": outcome.result["cluster"],
        "pictures": len(own),
        "loss": outcome.result["loss"],
        "own": [{"src": _source(outcome.folder / "pictures" / row["file_name"]), "text": row["text"]} for row in own],
        "drawn": {arm: [_source(file) for file in outcome.drawn(arm)[:SHOWN]] for arm in ARMS},
        "captions": [text for text, _ in outcome.result["asked"][:SHOWN]],
    }


def _source(file: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
