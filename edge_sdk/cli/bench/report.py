"""A row as lines for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from edge_sdk.cli.bench.parts import PARTS


def lines(row: dict[str, Any]) -> Iterator[str]:
    """The lines of a row: the machine, then each part, then throttling during the measurement."""
    machine = row["machine"]
    model = row["board"]["model"]
    yield f"{model or machine['processor']}, {machine['usable_cores']} cores, {_size(machine['memory'])} of memory"
    for part in PARTS:
        values = row[part]
        if "error" in values:
            yield f"{part}: failed, {values['error']}"
        elif "skipped" in values:
            yield f"{part}: left out, {values['skipped']}"
        else:
            yield f"{part}: {_WORDS[part](values)}; peak {_size(values['peak_memory'])}"
    after = row["board_after"]["throttled"]
    if after and after["bits"] not in (None, "0x0"):
        slowed = ", ".join(after["now"] or after["since_start"])
        yield f"note: the board says {after['bits']} ({slowed}): these times are slower than they could be"


def _prepare(values: dict[str, Any]) -> str:
    if not values["new"]:
        return "done before"
    return f"{values['new']} of {values['graphs']} in {values['seconds']:.1f} s"


def _picture(values: dict[str, Any]) -> str:
    warm = statistics.median(values["warm_seconds"])
    step = "" if values["step_seconds"] is None else f", {values['step_seconds']:.3g} s a step"
    return (
        f"cold {values['cold_seconds']:.2f} s, warm {warm:.2f} s for {values['steps']} steps{step}, "
        f"{values['decode_seconds']:.2g} s to decode"
    )


def _training(values: dict[str, Any]) -> str:
    return (
        f"{values['step_seconds']:.3g} s a step of {values['batch_size']} in {values['precision']}, the first "
        f"{values['first_step_seconds']:.3g} s, open after {values['opened_seconds']:.1f} s"
    )


def _transfer(values: dict[str, Any]) -> str:
    seconds = statistics.median(values["seconds"])
    return f"{_size(values['bytes'])} in {seconds:.2g} s, {values['bytes_per_second'] / 1e6:.1f} MB/s"


_WORDS = {"prepare": _prepare, "picture": _picture, "training": _training, "transfer": _transfer}


def _size(size: int | None) -> str:
    from edge_sdk.inference.runtime import show_size

    return "unknown" if size is None else show_size(size)
