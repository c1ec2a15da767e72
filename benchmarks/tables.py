"""The generated parts of docs/benchmarks/: tables from benchmarks/results/*.json, written by one command.

    python -m benchmarks.tables

The page docs/benchmarks/x.md has the parts made of x.json. A part stands between `<!-- NAME -->` and `<!-- /NAME -->`,
where NAME is a key of `PARTS`; text outside is left alone. A part whose results do not exist yet is empty.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.report.assist import assisted_pictures, assisted_times, failing_helpers
from benchmarks.report.byzantine import backdoors, gain
from benchmarks.report.clustering import events, evidence, exact_and_coarse, many, numbers, seconds, styles
from benchmarks.report.costs import idle, ids
from benchmarks.report.federation import costs, scores
from benchmarks.report.learning import lessons
from benchmarks.report.markdown import or_empty, table
from benchmarks.report.network import audited, crowds, fans, injected, resumed, rounds
from benchmarks.report.privacy import (
    codes,
    left,
    noise_attacked,
    noisy_sums,
    picture_groups,
    pictures,
    rivals,
    rivals_left,
    sums,
    sums_attacked,
    sums_with_losses,
)
from benchmarks.report.summing import sum_costs, sum_limits
from benchmarks.shared.harness import NOT_MEASURED

PAGES = Path("docs/benchmarks")
RESULTS = Path("benchmarks/results")
TITLES = {
    "bk-sdm-tiny": "BK-SDM-Tiny's shapes (UNet of 323 M parameters)",
    "sd15": "Stable Diffusion 1.5's shapes (UNet of 860 M parameters)",
}
Result: TypeAlias = Mapping[str, Any]


def main() -> None:
    """Rewrite the pages."""
    for page in pages():
        page.write_text(rewritten(page.read_text("utf-8"), page.stem), "utf-8")


def pages() -> list[Path]:
    """The pages that have generated parts, one for each file of results."""
    return [PAGES / f"{stem}.md" for stem in dict.fromkeys(Path(file).stem for file, _ in PARTS.values())]


def rewritten(text: str, stem: str) -> str:
    """The page of the results `stem`.json with its generated parts made anew.

    Raises:
        ValueError: the page does not hold a part's two comments exactly once.
    """
    for name, (file, make) in PARTS.items():
        if Path(file).stem != stem:
            continue
        path = RESULTS / file
        content = make(json.loads(path.read_text("utf-8"))) if path.exists() else ""
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"{PAGES / stem}.md must hold {begin} and {end} once: write them where the part belongs.")
        whole = f"{begin}\n{content}\n{end}" if content else f"{begin}\n{end}"
        # A function, because re.sub would read backslashes in a string as references to groups.
        text = pattern.sub(lambda _, whole=whole: whole, text)  # type: ignore[misc]
    return text


def measured(result: Result) -> str:
    """Date, machine and packages of the measurement."""
    machine = result["machine"]
    packages = [f"{name} {machine[name]}" for name in ("onnxruntime", "torch", "diffusers") if name in machine]
    facts = [machine["processor"], f"{machine['cores']} cores", f"{machine['memory_gb']} GB"]
    facts += [f"Python {machine['python']}", *packages]
    return _wrapped(f"Measured {result['date']} on {', '.join(facts)}.{_elsewhere(result)}")


def _elsewhere(result: Result) -> str:
    """A sentence on the runs of a resumed study that were made on other machines."""
    runs = Counter(
        json.loads(row["result"]).get("processor", result["machine"]["processor"])
        for row in result["rows"]
        if row.get("part") == "run"
    )
    others = [f"{count} on {name}" for name, count in runs.items() if name != result["machine"]["processor"]]
    return f" Of {runs.total()} runs {' and '.join(others)}." if others else ""


def bars(result: Result) -> str:
    """Every bar, with its value and whether it holds."""
    found = [
        [bar["name"], f"{bar['value']:.3g}", f"{bar['kind']} {bar['bar']:g}", "holds" if bar["holds"] else "**fails**"]
        for bar in result["bars"]
    ]
    return table(["bar", "value", "bound", ""], found)


def steps(result: Result) -> str:
    """Seconds a step of every row, for each shape that has any."""
    head = ["row", "batch 1", "batch 2", "batch 2, rank 16", "batch 2, three mixed", "limit, batch 2", "error"]

    def line(row: str, by_case: _Cases) -> list[str]:
        cases = [(0, 1), (0, 2), (1, 2), (3, 2)]
        error = by_case.get((0, 1), {}).get("step_error")
        return [
            row,
            *(_or_reason(by_case.get(case), "step_s", "{:.2f}") for case in cases),
            or_empty(by_case.get((0, 2), {}).get("limit_s"), "{:.2f}"),
            or_empty(error, "{:.1e}"),
        ]

    return _by_shape(result, head, line)


def loading(result: Result) -> str:
    """Loading, memory, disk and adapters of every row, for each shape that has any."""
    head = ["row", "load", "anonymous, loaded", "anonymous peak, batch 2", "total peak", "disk", "switch", "mix"]

    def line(row: str, by_case: _Cases) -> list[str]:
        first, second = by_case.get((0, 1), {}), by_case.get((0, 2), {})
        widest, batch = (second, "") if "peak_mb" in second else (first, " (batch 1)")
        return [
            row,
            or_empty(first.get("load_s"), "{:.2f} s"),
            or_empty(first.get("anonymous_loaded_mb"), "{:.0f}"),
            or_empty(widest.get("anonymous_peak_mb"), "{:.0f}" + batch),
            or_empty(widest.get("peak_mb"), "{:.0f}"),
            or_empty(first.get("disk_mb"), "{:.0f}"),
            _or_reason(by_case.get((1, 2)), "switch_ms", "{:.1f} ms"),
            _or_reason(by_case.get((3, 2)), "mix_ms", "{:.1f} ms"),
            or_empty(first.get("installed_mb"), "{:.0f}"),
        ]

    return _by_shape(result, [*head, "installed"], line)


def missing(result: Result) -> str:
    """Rows that were not measured, with the reason."""
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    for row in result["rows"]:
        note = str(row.get("note") or "")
        if row.get("part") == "step" and note.startswith(NOT_MEASURED):
            reasons.setdefault((row["shape"], note.removeprefix(NOT_MEASURED)), {})[row["row"]] = None
    found = [f"- {shape}, {reason}: {'; '.join(rows)}" for (shape, reason), rows in reasons.items()]
    return "\n".join(["Not measured:", "", *found]) if found else ""


def first_picture(result: Result) -> str:
    """Seconds from a process's start to its first picture."""
    found = [row for row in result["rows"] if row.get("part") == "first picture"]
    return "\n".join(
        _wrapped(
            f"The {row['model']} model, {row['steps']} guided steps, in a process that has to import and open "
            f"everything, bundle prepared and files in the page cache: {row['cold_process_s']:.2f} s."
        )
        for row in found
    )


def groups(result: Result) -> str:
    """Drawings inside control groups."""
    head = ["shapes", "limit of the group", "`memory_limit`", "result", "peak of the group", "time"]
    found = [row for row in result["rows"] if row.get("part") == "control group"]
    lines = [
        [
            f"{row['shape']}, {'guided' if row['guidance'] > 1 else 'without guidance'}",
            f"{row['limit_mb']:.0f} MB",
            or_empty(row.get("memory_limit_mb"), "{:.0f} MB"),
            "drawn" if row["drawn"] else str(row["note"]),
            or_empty(row.get("peak_mb"), "{:.0f} MB"),
            or_empty(row.get("seconds"), "{:.0f} s"),
        ]
        for row in found
    ]
    return table(head, lines) if lines else ""


def models(result: Result) -> str:
    """Every model: export, errors and adapters; then drawing."""
    exported = [
        [
            str(row.get("title", row["model"])),
            or_empty(row.get("unet_millions"), "{:.0f} M"),
            or_empty(row.get("slots"), "{}"),
            or_empty(row.get("bundle_mb"), "{:.0f}"),
            or_empty(row.get("export_s"), "{:.0f} s"),
            or_empty(row.get("verify_s"), "{:.0f} s"),
            _pair(row, "export_anonymous_peak_mb", "export_peak_mb"),
            *(
                or_empty(row.get(f"{part}_error"), "{:.1e}")
                for part in ("text", "unet", "unet_with_adapter", "vae", "preview")
            ),
        ]
        for row in result["rows"]
    ]
    drawn = [
        [
            str(row.get("title", row["model"])),
            or_empty(row.get("size"), "{}"),
            "" if "steps" not in row else f"{row['steps']} {row['scheduler']}",
            str(row.get("limit") or ""),
            or_empty(row.get("step_s"), "{:.2f} s"),
            or_empty(row.get("decode_s"), "{:.2f} s"),
            or_empty(row.get("preview_s"), "{:.2f} s"),
            or_empty(row.get("encode_s"), "{:.2f} s"),
            or_empty(row.get("switch_ms"), "{:.1f} ms"),
            _pair(row, "draw_anonymous_peak_mb", "draw_peak_mb"),
            row.get("note") or ("yes" if row["drawn"] and row["switched"] and row["restored"] else "**no**"),
        ]
        for row in result["rows"]
    ]
    head = ["model", "UNet", "slots", "bundle, MB", "export", "verification", "peak, MB"]
    errors = ["text", "UNet", "with adapter", "autoencoder", "quick decoder"]
    drawing = ["model", "pixels", "steps", "limit", "step", "decode", "quick decoder", "encode", "switch", "peak, MB"]
    return "\n\n".join([table([*head, *errors], exported), table([*drawing, "drawn, switched, restored"], drawn)])


def ways(result: Result) -> str:
    """Scores of both styles of a pair, by way of drawing."""
    head = ["way", "both styles", "the weaker one's probability", "subject", "both and subject", "time over merge"]
    found = [
        [
            row["way"],
            f"{row['both_styles']:.0%}",
            f"{row['weaker_share']:.2f}",
            f"{row['subject_hit']:.0%}",
            f"{row['both_and_subject']:.0%}" + or_empty(row.get("both_and_subject_se"), " ± {:.1%}"),
            f"{row['time_over_merge']:.2f}",
        ]
        for row in result["rows"]
        if row.get("part") != "run"
    ]
    return table(head, found)


PARTS: Mapping[str, tuple[str, Callable[[Result], str]]] = {
    "inference: machine": ("inference.json", measured),
    "inference: steps": ("inference.json", steps),
    "inference: loading": ("inference.json", loading),
    "inference: missing": ("inference.json", missing),
    "inference: first picture": ("inference.json", first_picture),
    "inference: groups": ("inference.json", groups),
    "inference: bars": ("inference.json", bars),
    "models: machine": ("models.json", measured),
    "models": ("models.json", models),
    "models: bars": ("models.json", bars),
    "learning: machine": ("learning.json", measured),
    "learning: lessons": ("learning.json", lessons),
    "learning: bars": ("learning.json", bars),
    "federation: machine": ("federation.json", measured),
    "federation: scores": ("federation.json", scores),
    "federation: costs": ("federation.json", costs),
    "federation: bars": ("federation.json", bars),
    "clustering: machine": ("clustering.json", measured),
    "clustering: styles": ("clustering.json", styles),
    "clustering: evidence": ("clustering.json", evidence),
    "clustering: numbers": ("clustering.json", numbers),
    "clustering: exact and coarse": ("clustering.json", exact_and_coarse),
    "clustering: seconds": ("clustering.json", seconds),
    "clustering: many": ("clustering.json", many),
    "clustering: events": ("clustering.json", events),
    "clustering: bars": ("clustering.json", bars),
    "hybrids: machine": ("hybrids.json", measured),
    "hybrids: ways": ("hybrids.json", ways),
    "hybrids: bars": ("hybrids.json", bars),
    "assist: machine": ("assist.json", measured),
    "assist: pictures": ("assist.json", assisted_pictures),
    "assist: times": ("assist.json", assisted_times),
    "assist: faults": ("assist.json", failing_helpers),
    "assist: bars": ("assist.json", bars),
    "byzantine: machine": ("byzantine.json", measured),
    "byzantine: gain": ("byzantine.json", gain),
    "byzantine: backdoors": ("byzantine.json", backdoors),
    "byzantine: bars": ("byzantine.json", bars),
    "privacy: machine": ("privacy.json", measured),
    "privacy: codes": ("privacy.json", codes),
    "privacy: rivals": ("privacy.json", rivals),
    "privacy: groups": ("privacy.json", left),
    "privacy: rival groups": ("privacy.json", rivals_left),
    "privacy: sums": ("privacy.json", sums),
    "privacy: sums attacked": ("privacy.json", sums_attacked),
    "privacy: sums with losses": ("privacy.json", sums_with_losses),
    "privacy: noisy sums": ("privacy.json", noisy_sums),
    "privacy: noise attacked": ("privacy.json", noise_attacked),
    "privacy: pictures": ("privacy.json", pictures),
    "privacy: picture groups": ("privacy.json", picture_groups),
    "privacy: bars": ("privacy.json", bars),
    "chaos: machine": ("chaos.json", measured),
    "chaos: audit": ("chaos.json", audited),
    "chaos: faults": ("chaos.json", injected),
    "chaos: resume": ("chaos.json", resumed),
    "chaos: bars": ("chaos.json", bars),
    "base_id: machine": ("base_id.json", measured),
    "base_id: ids": ("base_id.json", ids),
    "base_id: bars": ("base_id.json", bars),
    "idle: machine": ("idle.json", measured),
    "idle: costs": ("idle.json", idle),
    "idle: bars": ("idle.json", bars),
    "secure_sum: machine": ("secure_sum.json", measured),
    "secure_sum: costs": ("secure_sum.json", sum_costs),
    "secure_sum: limits": ("secure_sum.json", sum_limits),
    "secure_sum: bars": ("secure_sum.json", bars),
    "transport: machine": ("transport.json", measured),
    "transport: fans": ("transport.json", fans),
    "transport: memory": ("transport.json", crowds),
    "transport: rounds": ("transport.json", rounds),
    "transport: bars": ("transport.json", bars),
}
# (adapters, batch) -> the row of results.
_Cases: TypeAlias = Mapping[tuple[int, int], Result]


def _by_shape(result: Result, head: Sequence[str], line: Callable[[str, _Cases], list[str]]) -> str:
    """A table under a heading for each shape that was measured."""
    shapes: dict[str, dict[str, dict[tuple[int, int], Result]]] = {}
    for row in result["rows"]:
        if row.get("part") == "step" and "adapters" in row:
            cases = shapes.setdefault(row["shape"], {}).setdefault(row["row"], {})
            cases[row["adapters"], row["batch"]] = row
    parts = []
    for shape, rows in shapes.items():
        parts += [
            f"### {TITLES.get(shape, shape)}",
            table(head, [line(name, by_case) for name, by_case in rows.items()]),
        ]
    return "\n\n".join(parts)


def _or_reason(row: Result | None, name: str, form: str) -> str:
    """A figure, or the reason why there is none."""
    if row is not None and row.get(name) is not None:
        return form.format(row[name])
    return "cannot" if row is not None and str(row.get("note", "")).startswith("cannot") else "not measured"


def _pair(row: Result, anonymous: str, total: str) -> str:
    """Megabytes of anonymous memory / in total, mapped files included."""
    return "" if anonymous not in row else f"{row[anonymous]:.0f} / {row[total]:.0f}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    main()
