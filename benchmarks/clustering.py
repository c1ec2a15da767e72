"""Clusterers and rules on federations of known groups: exact and coarse, up to 10,000 devices.

    python -m benchmarks.clustering [--quick] [--seed N] [--json FILE]

`crowd.tastes` makes the federations. ARI is the adjusted Rand index against the known groups: 1 is perfect, 0 is
chance; with a single group it is 1 if no second one is invented. Seconds up to 500 devices cover comparing and
grouping, with the bases in memory. Rows of the part "evidence" are of federations in which all, half or none of the
captions name a taste, with picture codes that are informative or useless; there, clusterers have their own rules.
Rows of the part "styles" are of `crowd.stickers`, with real codes of both levels and real adapters, where no device
names its style in its captions, or half of them do; `ari_before` is that before any training. `crowd.cost` measures
10,000 devices, reading included, and the arrival of an update; `crowd.events` what one event costs the coordinator from
a hundred devices to ten thousand.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence

import numpy as np
from rich.progress import track
from sklearn.metrics import adjusted_rand_score

from benchmarks.crowd.cost import arrival, in_own_process
from benchmarks.crowd.events import events
from benchmarks.crowd.stickers import STEPS, StickerFederation
from benchmarks.crowd.tastes import NOISES, Federation
from benchmarks.shared.harness import Bar, Report, Row, arguments, value_of
from coordinator.methods.clustering import (
    CLUSTERERS,
    MOST_DENSE,
    RULES,
    Crowd,
    Dense,
    Evidence,
    Fused,
    Labels,
    coarse,
    compare,
    least_silhouette,
    partition,
    similarity,
)
from edge_sdk.privacy import LEAVING

GROUPS = {8: 2, 16: 4, 32: 4, 100: 5, 500: 8, 10_000: 20}
JUDGED = 500  # devices at which coarse is compared with dense
LARGE = 10_000
SEEDS = 3
ROUNDS = 2  # rounds of training behind the evidence: `fused` has reached its final weights
GIVEN = "given"  # the rule is told the number of groups
COMPARED = ("fused", "prompt", "adapter", "single")  # without picture codes, the others are as fused
DECIDING = ("fused", "prompt", "picture", "validated")
NAMED = (1.0, 0.5, 0.0)  # shares of the devices whose captions name a taste
PICTURES = ("informative", "useless")
TOLD_APART = {16: 4, 48: 4, 300: 8}  # devices, groups; more than `MOST_DENSE` devices at middle noise only
DEFAULT = Fused().choose
STYLED = {16: 0.8, 48: 0.8}  # devices -> least ARI without style words
HALF_NAMED = 0.95  # the same with those of half of the devices
CROSSING = (50, 100, 150, 200, 300, 500)
ARRIVING = 100
CROWDS = (100, 1000, LARGE)
REPEATED = 25  # times each event
FLAT = 1.5  # largest ratio of an event's costs in the largest and the smallest crowd
NO_GROUPS = "no groups"


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given)
    quick = chosen.quick
    seeds = [chosen.seed + number for number in range(1 if quick else SEEDS)]
    report = Report(chosen, seeds=seeds)
    sizes = [size for size in GROUPS if size <= (100 if quick else JUDGED)]
    cases = [(size, noise, seed) for size in sizes for noise in (*NOISES, NO_GROUPS) for seed in seeds]
    rows = [row for case in track(cases, description="groups") for row in _grouped(*case)]
    report.rows += _means(rows)
    sizes = [size for size in TOLD_APART if not quick or size <= 16]
    weighed = [
        (size, noise, named, pictures, seed)
        for size in sizes for noise in (NOISES if size <= MOST_DENSE else ("middle",))
        for named in NAMED for pictures in PICTURES for seed in seeds
    ]  # fmt: skip
    rows = [row for case in track(weighed, description="evidence") for row in decided(*case)]
    report.rows += _means(rows)
    styled = [
        (size, named, level, 1 if quick else STEPS, seed)
        for size in sizes if size in STYLED for named in (0.0, 0.5) for level in LEAVING for seed in seeds
    ]  # fmt: skip
    rows = [row for case in track(styled, description="styles") for row in told_apart(*case)]
    report.rows += _means(rows)
    report.rows += [_crossing(size, chosen.seed) for size in CROSSING[: 1 if quick else None]]
    for noise in track(["middle"] if quick else list(NOISES), description="many devices"):
        devices = 1000 if quick else LARGE
        report.rows.append(in_own_process(devices, GROUPS[LARGE], noise, ROUNDS, chosen.seed))
    report.rows.append(arrival(10 if quick else ARRIVING))
    for devices in track(CROWDS[: 2 if quick else None], description="events"):
        report.rows += events(devices, REPEATED)
    report.bars += bars(report.rows)
    report.finish()


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Bars: the coarse method's loss at each level of noise, no groups invented by the default rule, the cost of 10,000
    devices, and that of an event among them."""
    found: list[Bar] = []
    found += _validated([row for row in rows if row["part"] == "evidence"])
    found += _styled([row for row in rows if row["part"] == "styles"])
    rows = [row for row in rows if row["part"] not in ("evidence", "styles")]
    exact = {_case(row): value_of(row, "ari") for row in rows if row.get("how") == "dense"}
    lost: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.get("how") == "coarse" and row["devices"] == JUDGED:
            key = (str(row["noise"]), str(row["rule"]))
            lost[key] = max(lost.get(key, -1.0), exact[_case(row)] - value_of(row, "ari"))
    found += [
        Bar(f"{JUDGED} devices, {noise} noise, {rule}: ARI that coarse loses to dense, worst clusterer", value, 0.02)
        for (noise, rule), value in lost.items()
    ]
    found += [
        Bar(f"{row['devices']} devices without groups, {row['clusterer']}: groups by the default rule", most, 1)
        for row in rows
        if row.get("noise") == NO_GROUPS and row["how"] == "dense" and row["rule"] == DEFAULT
        for most in [value_of(row, "most_found")]
    ]
    for row in (row for row in rows if row["part"] == "many"):
        name = f"{row['devices']} devices, {row['noise']} noise"
        found += [
            Bar(f"{name}: seconds, all that is read included", value_of(row, "seconds"), 60.0),
            Bar(f"{name}: peak memory, GB", value_of(row, "peak_gb"), 2.0),
        ]
    return found + _flat([row for row in rows if row["part"] == "event"])


def _validated(rows: Sequence[Row]) -> list[Bar]:
    """Bars: the ARI that choosing the evidence loses to the best single kind of it, the worst case.

    Beyond middle noise, many devices are trained on more of their second taste than of their first: adapters rightly
    confirm other groups than those known.
    """
    lost: dict[int, float] = {}
    for row in rows:
        if row["clusterer"] == "validated" and row["noise"] in ("low", "middle"):
            where = ("devices", "noise", "named", "pictures")
            same = [other for other in rows if all(other[name] == row[name] for name in where)]
            devices, best = int(value_of(row, "devices")), max(value_of(other, "ari") for other in same)
            lost[devices] = max(lost.get(devices, 0.0), best - value_of(row, "ari"))
    return [
        Bar(f"{devices} devices: ARI that validated loses to the best evidence, worst case", value, 0.1)
        for devices, value in lost.items()
    ]


def _styled(rows: Sequence[Row]) -> list[Bar]:
    """Bars: the ARI of the default clusterer after training where captions name no style, or half of them."""
    return [
        Bar(
            f"{row['devices']} devices, level {row['level']}, {row['named']:.0%} name their style: ARI of validated",
            value_of(row, "ari"),
            HALF_NAMED if row["named"] else STYLED[int(value_of(row, "devices"))],
            "at least",
        )
        for row in rows
        if row["clusterer"] == "validated"
    ]


def _flat(rows: Sequence[Row]) -> list[Bar]:
    """Bars: the cost of an event in the largest crowd, in units of that in the smallest; the worst event."""
    found: list[Bar] = []
    sizes = sorted({int(value_of(row, "devices")) for row in rows})
    for figure, name in (("step_us", "round machine"), ("saved_ms", "saved and carried out")) if rows else ():
        cost = {(row["devices"], row["event"]): value_of(row, figure) for row in rows}
        kinds = {row["event"] for row in rows}
        worst = max(cost[sizes[-1], kind] / cost[sizes[0], kind] for kind in kinds)
        found.append(Bar(f"an event of {sizes[-1]} devices, {name}: cost in that of {sizes[0]}", worst, FLAT))
    return found


def _grouped(devices: int, noise: str, seed: int) -> Iterator[dict[str, str | int | float]]:
    groups = 1 if noise == NO_GROUPS else GROUPS[devices]
    federation = Federation(devices, groups, NOISES["middle" if noise == NO_GROUPS else noise], seed)
    evidence = federation.evidence(ROUNDS)
    for method in COMPARED:
        for how in ("dense", "coarse"):
            began = time.perf_counter()
            crowd = _compare(evidence, method, how)
            compared = time.perf_counter() - began
            for rule in (*RULES.built_in, GIVEN):
                began = time.perf_counter()
                labels = _partition(crowd, rule, groups)
                yield {
                    "part": "groups",
                    "devices": devices,
                    "noise": noise,
                    "clusterer": method,
                    "rule": rule,
                    "how": how,
                    "ari": float(adjusted_rand_score(federation.truth, labels)),
                    "found": int(labels.max()) + 1,
                    "seconds": compared + time.perf_counter() - began,
                }


def decided(devices: int, noise: str, named: float, pictures: str, seed: int) -> Iterator[dict[str, str | int | float]]:
    """Groups by clusterers with their own rules, before training and after `ROUNDS` rounds of it."""
    federation = Federation(devices, TOLD_APART[devices], NOISES[noise], seed, named=named, pictures=pictures)
    evidence = {rounds: federation.evidence(rounds) for rounds in (0, ROUNDS)}
    for method in DECIDING:
        yield {
            "part": "evidence",
            "devices": devices,
            "noise": noise,
            "named": named,
            "pictures": pictures,
            **_decided(method, list(evidence.values()), federation.truth)[-1],
        }


def told_apart(devices: int, named: float, level: str, steps: int, seed: int) -> Iterator[dict[str, str | int | float]]:
    """The same of devices of the stickers' styles, of which the share `named` says its style; steps: of a round."""
    federation = StickerFederation(devices, named, seed, steps)
    evidence = [federation.evidence(level, rounds) for rounds in (0, ROUNDS)]
    for method in DECIDING:
        before, after = _decided(method, evidence, federation.truth)
        facts = {"part": "styles", "devices": devices, "named": named, "level": level}
        yield {**facts, **after, "ari_before": before["ari"]}


def _decided(method: str, evidence: Sequence[Evidence], truth: Labels) -> list[dict[str, str | int | float]]:
    """Cells on the groups of a clusterer at each of these times, one after the other."""
    found: list[dict[str, str | int | float]] = []
    present: list[int | None] = [None] * len(truth)
    began = time.perf_counter()
    for known in evidence:
        chosen = CLUSTERERS[method]().decide(known, present).clusterer
        labels = chosen.labels(compare(known, chosen(known)), len(set(present) - {None}))
        present = [int(label) for label in labels]
        found.append(
            {
                "clusterer": method,
                "how": "dense" if len(truth) <= MOST_DENSE else "coarse",
                "chosen_picture": float(chosen.method == "picture"),
                "ari": float(adjusted_rand_score(truth, present)),
                "found": len(set(present)),
                "seconds": time.perf_counter() - began,
            }
        )
    return found


def _compare(evidence: Evidence, method: str, how: str) -> Crowd:
    blend = CLUSTERERS[method]()(evidence)
    crowd = Dense(similarity(evidence, blend)) if how == "dense" else coarse(evidence, blend)
    crowd.least_silhouette = least_silhouette(evidence, blend)
    return crowd


def _partition(crowd: Crowd, rule: str, groups: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return partition(crowd, clusters=groups) if rule == GIVEN else partition(crowd, choose=rule)


def _means(rows: Sequence[Row]) -> list[Row]:
    """One row for all seeds."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        found.setdefault((*_case(row), row["how"]), []).append(row)
    return [
        {
            **same[0],
            "ari": statistics.mean(value_of(row, "ari") for row in same),
            "worst_ari": min(value_of(row, "ari") for row in same),
            "found": statistics.mean(value_of(row, "found") for row in same),
            "most_found": max(value_of(row, "found") for row in same),
            **{
                name: statistics.mean(value_of(row, name) for row in same)
                for name in ("chosen_picture", "ari_before")
                if name in same[0]
            },
            "seconds": statistics.median(value_of(row, "seconds") for row in same),
        }
        for same in found.values()
    ]


def _crossing(devices: int, seed: int) -> Row:
    """Seconds of both methods, taken in turns; medians of three."""
    federation = Federation(devices, 5, NOISES["middle"], seed)
    evidence = federation.evidence(ROUNDS)
    seconds: dict[str, list[float]] = {"dense": [], "coarse": []}
    for _ in range(3):
        for how, taken in seconds.items():
            began = time.perf_counter()
            partition(_compare(evidence, "fused", how))
            taken.append(time.perf_counter() - began)
    medians = {f"{how}_s": statistics.median(taken) for how, taken in seconds.items()}
    return {"part": "crossing", "devices": devices, **medians}


def _case(row: Row) -> tuple[object, ...]:
    return tuple(row.get(name) for name in ("devices", "noise", "clusterer", "rule", "named", "pictures", "level"))


if __name__ == "__main__":
    main()
