"""The tables of benchmarks.clustering: are the groups found, and at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from benchmarks.report.markdown import NOT_YET, table

Result: TypeAlias = Mapping[str, Any]
_RULES = ("silhouette", "eigengap", "significant")


def styles(result: Result) -> str:
    """ARI before training and after it, of the stickers' device styles: a column for each clusterer."""
    rows = _part(result, "styles")
    if not rows:
        return NOT_YET
    clusterers = _named(rows, "clusterer")
    found = {(row["devices"], row["named"], row["level"], row["clusterer"]): row for row in rows}
    return table(
        ["devices", "captions with style words", "level", *(f"`{name}`" for name in clusterers)],
        [
            [
                str(devices), f"{named:.0%}", f"`{level}`",
                *(_before_and_after(found[devices, named, level, name]) for name in clusterers),
            ]
            for devices, named, level in dict.fromkeys(key[:3] for key in found)
        ],
    )  # fmt: skip


def evidence(result: Result) -> str:
    """ARI after training of synthetic federations at low noise: a column for each clusterer."""
    rows = [row for row in _part(result, "evidence") if row["noise"] in ("low", "middle")]
    if not rows:
        return NOT_YET
    clusterers = _named(rows, "clusterer")
    cases = ("devices", "noise", "named", "pictures")
    found = {(*(row[name] for name in cases), row["clusterer"]): row for row in rows}
    return table(
        ["devices", "noise", "captions name the taste", "picture codes", *(f"`{name}`" for name in clusterers)],
        [
            [
                str(devices), noise, f"{named:.0%}", pictures,
                *(f"{found[devices, noise, named, pictures, name]['ari']:.2f}" for name in clusterers),
            ]
            for devices, noise, named, pictures in dict.fromkeys(key[:4] for key in found)
        ],
    )  # fmt: skip


def numbers(result: Result) -> str:
    """ARI of three rules by the exact method, by devices, clusterer and noise."""
    rows = [row for row in _part(result, "groups") if row["how"] == "dense" and row["clusterer"] != "single"]
    noises = _named(rows, "noise")
    found = {(row["devices"], row["clusterer"], row["noise"], row["rule"]): row["ari"] for row in rows}
    return table(
        ["devices", "clusterer", *noises],
        [
            [
                str(devices), f"`{name}`",
                *(" / ".join(f"{found[devices, name, noise, rule]:.2f}" for rule in _RULES) for noise in noises),
            ]
            for devices, name in dict.fromkeys(key[:2] for key in found)
        ],
    )  # fmt: skip


def exact_and_coarse(result: Result) -> str:
    """ARI of both methods in the largest federations that are compared in both ways."""
    rows = [row for row in _part(result, "groups") if row["clusterer"] != "single"]
    most = max((row["devices"] for row in rows), default=0)
    rows = [row for row in rows if row["devices"] == most and row["noise"] != "no groups"]
    rules = _named(rows, "rule")
    found = {(row["noise"], row["clusterer"], row["rule"], row["how"]): row["ari"] for row in rows}
    return table(
        ["noise", "clusterer", *rules],
        [
            [
                noise, f"`{name}`",
                *(" / ".join(f"{found[noise, name, rule, how]:.3f}" for how in ("dense", "coarse")) for rule in rules),
            ]
            for noise, name in dict.fromkeys(key[:2] for key in found)
        ],
    )  # fmt: skip


def seconds(result: Result) -> str:
    """Seconds of both methods by number of devices."""
    found = [
        [str(row["devices"]), f"{row['dense_s']:.2f} s", f"{row['coarse_s']:.2f} s"]
        for row in _part(result, "crossing")
    ]
    return table(["devices", "exact", "micro-clusters"], found)


def many(result: Result) -> str:
    """Many devices: ARI by rule, time, memory, and what was read."""
    found = [
        [
            str(row["devices"]), str(row["groups"]), row["noise"],
            *(f"{row[f'ari_{rule}']:.3f}" for rule in (*_RULES, "given")),
            f"{row['seconds']:.1f} s", f"{row['reading_s']:.1f} s", f"{row['database_mb']:.0f} MB",
            f"{row['peak_gb']:.2f} GB",
        ]
        for row in _part(result, "many")
    ]  # fmt: skip
    head = ["devices", "groups", "noise", *_RULES, "number given", "time", "of it reading", "database", "peak memory"]
    return table(head, found)


def events(result: Result) -> str:
    """Microseconds of an event in the round machine, and milliseconds until it is saved and carried out, by crowd."""
    rows = _part(result, "event")
    crowds = _named(rows, "devices")
    found = {(row["event"], row["devices"]): row for row in rows}
    return table(
        ["event", *(f"{crowd} devices" for crowd in crowds)],
        [
            [
                str(kind),
                *(f"{one['step_us']:.0f} µs, {one['saved_ms']:.2f} ms" for one in (found[kind, c] for c in crowds)),
            ]
            for kind in _named(rows, "event")
        ],
    )


def _part(result: Result, part: str) -> list[Result]:
    return [row for row in result["rows"] if row["part"] == part]


def _named(rows: Sequence[Result], column: str) -> list[Any]:
    return list(dict.fromkeys(row[column] for row in rows))


def _before_and_after(row: Result) -> str:
    return f"{row['ari_before']:.2f} → {row['ari']:.2f}"
