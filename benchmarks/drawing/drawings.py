"""Whole drawings in processes of their own: the first picture, and pictures under a control group's memory limit."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.shared.control_groups import controller
from benchmarks.shared.harness import NOT_MEASURED, Cell, Row
from benchmarks.shared.stickers import bundle

_DRAW = """
import sys
from edge_sdk.inference import Generator
bundle, cache, limit, tile, steps, guidance = sys.argv[1:]
options = {"memory_limit": int(limit)} if int(limit) else {}
with Generator.load(bundle, cache=cache, verify=False, prepare=not options, **options) as generator:
    generator.generate("a fox", seed=7, steps=int(steps), guidance=float(guidance), tile=int(tile) or None)
"""


def first_picture(folder: Path) -> Row:
    """Seconds from a process's start to the stickers model's first picture; bundle prepared and in the page cache."""
    drawn = [_draw(bundle(), folder / "demo-cache", steps=25, guidance=7.5) for _ in range(4)]
    if failed := [said for _, code, said in drawn if code]:
        raise RuntimeError(f"The stickers model could not be drawn: {failed[0]}")
    times = [seconds for seconds, _, _ in drawn]
    return {"part": "first picture", "model": "stickers", "steps": 25, "cold_process_s": statistics.median(times[1:])}


def in_group(place: Path, limit: int, guidance: float) -> Row:
    """A drawing of two steps inside a control group, whose processes are killed above its memory limit."""
    cells: dict[str, Cell] = {
        "part": "control group",
        "shape": place.name,
        "limit_mb": limit / 1e6,
        "guidance": guidance,
        "steps": 2,
    }
    root = controller("memory")
    if root is None:
        return {**cells, "drawn": None, "note": f"{NOT_MEASURED}no memory controller that this user may write to"}
    group = root / f"impasto-benchmark-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit), "ascii")
        allowed = int(limit - 0.1e9)
        seconds, code, said = _draw(
            place / "fp32", place / "none", limit=allowed, tile=256, steps=2, guidance=guidance, group=group
        )
        peak = int((group / "memory.max_usage_in_bytes").read_text("ascii"))
    finally:
        group.rmdir()
    return {
        **cells,
        "memory_limit_mb": allowed / 1e6,
        "tile": 256,
        "drawn": int(code == 0),
        "peak_mb": peak / 1e6,
        "seconds": seconds,
        "note": "" if code == 0 else "killed" if code == -9 else said,
    }


def _draw(
    bundle: Path,
    cache: Path,
    *,
    steps: int,
    guidance: float,
    limit: int = 0,
    tile: int = 0,
    group: Path | None = None,
) -> tuple[float, int, str]:
    """Draw in a new process: seconds, its exit code, its last line of output."""
    command = [sys.executable, "-c", _DRAW, *map(str, (bundle, cache, limit, tile, steps, guidance))]
    if group is not None:
        # The shell enters the group and becomes the process.
        command = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group), *command]
    began = time.perf_counter()
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return time.perf_counter() - began, done.returncode, (done.stderr.strip().splitlines() or [""])[-1]
