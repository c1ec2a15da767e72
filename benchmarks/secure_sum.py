"""Masked sums beside Flower's SecAgg+: bytes, seconds of a device and of the server, and whether the sum is right.

    python -m benchmarks.secure_sum [--quick] [--seed N] [--json FILE]

Both sides compute the same weighted means of the same numbers in the same run, with the same graph and threshold, on
one thread, without a network: four slots of the stickers model's adapter of rank 8, A and B, 2.6 MB in 32-bit words. 30
% of the devices are lost after they have sent their shares, when a sum costs most. Ours are the two machines of
`edge_sdk.secure_aggregation` and `coordinator.secure_aggregation`; Flower's are its workflow and its mod, whole, in an
environment of their own. Seconds are those of the processor; a device's are the mean over all devices, training not
counted. Bytes are those of all messages of the protocol. Sums of few devices are repeated, in turns, and their median
is shown.

Limits: a tensor of large numbers beside one of small ones, and more devices than 32 bits hold.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.network.flower import install
from benchmarks.shared.harness import KEPT, NOT_MEASURED, Bar, Report, Row, arguments, value_of
from benchmarks.summing.ours import Run
from benchmarks.summing.settings import SLOTS, SPREAD, Sum, adapter_size, make_sum, worst_error
from edge_sdk.secure_aggregation import parameters, shards

DEVICES, QUICK_DEVICES = (8, 50, 200, 1000), (8, 12)
QUICK_SIZE = 2000
REPETITIONS = 3
_REPEATED = 50  # devices up to which sums are repeated
_WIDE = ((1000, 4.0), (1000, 1e-3))  # tensors of the first limit: size, standard deviation
_MANY, _QUICK_MANY = 1030, 0
_FLOWER_CLIP = 8.0  # its default
_SPARSE = (8, 5)  # a graph for Flower where only the sum is looked at
_DEADLINE = 4 * 3600.0
_SCRIPT = Path(__file__).parent / "summing" / "flower_sums.py"
_console = Console()


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given)
    report = Report(chosen, seeds=[chosen.seed])
    flower = Flower(KEPT / "environments")
    size = QUICK_SIZE if chosen.quick else SLOTS * adapter_size()
    for devices in QUICK_DEVICES if chosen.quick else DEVICES:
        report.rows += costs(flower, make_sum(devices, [(size, SPREAD)], chosen.seed), chosen.quick)
        report.write()
    report.rows += limits(flower, chosen.seed, _QUICK_MANY if chosen.quick else _MANY)
    report.bars += bars(report.rows)
    report.finish()


class Flower:
    """Flower in an environment of its own; installed at the first sum."""

    def __init__(self, environments: Path) -> None:
        self._environments = environments

    def run(self, settings: dict[str, Any]) -> dict[str, float | None]:
        """Costs and error of one sum.

        Raises:
            RuntimeError: it cannot be installed, or has failed; the message is its last line.
        """
        try:
            commands = install(self._environments)
            with tempfile.TemporaryDirectory(prefix="impasto-secure-sum-") as folder:
                asked, told = Path(folder, "settings.json"), Path(folder, "result.json")
                asked.write_text(json.dumps(settings), "utf-8")
                done = subprocess.run(
                    [str(commands / "python"), str(_SCRIPT), str(asked), str(told)],
                    env={"FLWR_TELEMETRY_ENABLED": "0", "OMP_NUM_THREADS": "1", "HOME": folder},
                    capture_output=True,
                    text=True,
                    timeout=_DEADLINE,
                    check=False,
                )
                if done.returncode:
                    raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
                return dict(json.loads(told.read_text("utf-8")))
        except (OSError, subprocess.SubprocessError) as error:
            raise RuntimeError(str(error)) from error


def costs(flower: Flower, what: Sum, quick: bool) -> list[Row]:
    """The rows of one sum, of both sides."""
    times = 1 if quick or what.devices > _REPEATED else REPETITIONS
    found: dict[str, list[dict[str, float | None]]] = {"ours": [], "Flower 1.42": []}
    problem = ""
    for _ in range(times):
        found["ours"].append(Run(what).run())
        try:
            found["Flower 1.42"].append(flower.run(what.for_flower()))
        except RuntimeError as error:
            problem = str(error)
            _console.print(f"{what.devices} devices, Flower: {error}", highlight=False)
    return [_row(what, name, runs, problem) for name, runs in found.items()]


def _row(what: Sum, name: str, runs: list[dict[str, float | None]], problem: str) -> Row:
    head = {"part": "costs", "row": name, "devices": what.devices, "lost": len(what.lost)}
    if not runs:
        return {**head, "note": NOT_MEASURED + problem}
    neighbours, threshold = parameters(what.devices)
    median = {key: statistics.median(run[key] or 0.0 for run in runs) for key in ("device_s", "server_s", "up", "down")}
    errors = [run["error"] for run in runs]
    return {
        **head,
        "neighbours": neighbours,
        "threshold": threshold,
        "up_mb": median["up"] / 1e6,
        "down_mb": median["down"] / 1e6,
        "device_s": median["device_s"],
        "server_s": median["server_s"],
        "error": None if None in errors else max(error for error in errors if error is not None),
    }


def limits(flower: Flower, seed: int, many: int) -> list[Row]:
    """Errors where the numbers, or the devices, are beyond what one scale, or 32 bits, hold."""
    wide = make_sum(8, _WIDE, seed)
    rows: list[Row] = [_limit("large and small numbers", "ours", 8, Run(wide).run()["error"])]
    for name, clip in (("Flower 1.42, clips at 8", _FLOWER_CLIP), ("Flower 1.42, clips above all", None)):
        rows.append(_theirs("large and small numbers", name, flower, wide, wide.for_flower(clip)))
    if many:
        equal = replace(make_sum(many, [(100, SPREAD)], seed, lost=0.0), weights=(1,) * many)
        rows.append(_limit("more devices than 32 bits hold", "ours, in several sums", many, _in_shards(equal)))
        settings = equal.for_flower(graph=_SPARSE)
        rows.append(_theirs("more devices than 32 bits hold", "Flower 1.42", flower, equal, settings))
    return rows


def _theirs(what: str, name: str, flower: Flower, given: Sum, settings: dict[str, Any]) -> Row:
    try:
        return _limit(what, name, given.devices, flower.run(settings)["error"])
    except RuntimeError as error:
        return {**_limit(what, name, given.devices, None), "note": NOT_MEASURED + str(error)}


def _limit(what: str, name: str, devices: int, error: float | None) -> Row:
    return {"part": "limits", "what": what, "row": name, "devices": devices, "error": error, "note": None}


def _in_shards(what: Sum) -> float:
    """The error of a mean whose devices are divided into several sums."""
    total, weight, first = [0.0 * tensor for tensor in what.total()], 0, 0
    for count in shards(what.devices):
        part = replace(what, devices=count, weights=what.weights[first : first + count], first=first)
        mean = Run(part).summed()
        total = [old + count * new for old, new in zip(total, mean.tensors.values(), strict=True)]
        weight, first = weight + count, first + count
    return worst_error([tensor / weight for tensor in total], [tensor / what.devices for tensor in what.total()])


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Bars: bytes and seconds at most Flower's at every size; an error of at most a hundred-thousandth."""
    found = []
    ours = [row for row in rows if row["part"] == "costs" and row["row"] == "ours"]
    for row in ours:
        theirs = next(r for r in rows if r["part"] == "costs" and r["devices"] == row["devices"] and r is not row)
        sent = [value_of(r, "up_mb") + value_of(r, "down_mb") for r in (row, theirs)]
        found.append(Bar(f"{row['devices']} devices: bytes of a device, times Flower's", sent[0] / sent[1], 1.0))
        for key, what in (("device_s", "seconds of a device"), ("server_s", "seconds of the server")):
            ratio = value_of(row, key) / value_of(theirs, key)
            found.append(Bar(f"{row['devices']} devices: {what}, times Flower's", ratio, 1.0))
    errors = [value_of(row, "error") for row in rows if str(row["row"]).startswith("ours")]
    found.append(Bar("relative error of the mean", max(errors), 1e-5))
    return found


if __name__ == "__main__":
    main()
