"""The benchmark of codes as tables in Markdown: what attacks find, rivals that fail, groups that are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from benchmarks.report.markdown import NOT_YET, or_empty, table

Result: TypeAlias = Mapping[str, Any]
_UNMEASURED = "Not measured yet: the base model of this run has no image encoder."
_SHARES = ("found", "styled", "voted", "nearest", "informed", "chance")


# ARI of clusters found by sums, beside that of everybody in groups of two at least.
_UNDER = ("ari_lost", "ari_three")


def codes(result: Result) -> str:
    """Shares that the server alone finds, for each level and number of captions."""
    rows = [row for row in result["rows"] if row["part"] in ("code", "eight bits")]
    head = ["code", "captions", *_SHARES, *_guess_heads(rows), "one more", ""]
    return table(
        head,
        [
            [
                str(row["code"]), str(row["captions"]), *(_share(row[name]) for name in _SHARES), *_guesses(row),
                _share(row["one_more"]), "refused" if row["refused"] else "",
            ]
            for row in rows
        ],
    )  # fmt: skip


def rivals(result: Result) -> str:
    """The same for ways to hide prompts that are not shipped."""
    rows = [row for row in result["rows"] if row["part"] == "rival"]
    head = ["rival", *_SHARES, *_guess_heads(rows), "ARI, 48 devices"]
    return table(
        head,
        [
            [
                str(row["code"]), *(_share(row[name]) for name in _SHARES), *_guesses(row),
                or_empty(row.get("ari_48"), "{:.2f}"),
            ]
            for row in rows
        ],
    )  # fmt: skip


def left(result: Result) -> str:
    """ARI of the coordinator's groups, for each crowd, and how often devices of one style make one group."""
    return _left(result, "groups")


def rivals_left(result: Result) -> str:
    """The same for other bases and another rounding of level coarse."""
    return _left(result, "rival groups")


def _left(result: Result, part: str) -> str:
    rows = [row for row in result["rows"] if row["part"] in (part, f"no {part}")]
    cases = list(dict.fromkeys((row["devices"], row["style words"]) for row in rows))
    levels = list(dict.fromkeys(row["code"] for row in rows))
    found = {(row["code"], row["devices"], row["style words"], row.get("number")): row for row in rows}

    def line(devices: int, words: str) -> list[str]:
        cells = [str(devices), words]
        for number in ("given", "found", None):
            figure = "one" if number is None else "ari"
            cells.append(" / ".join(f"{found[level, devices, words, number][figure]:.3g}" for level in levels))
        return cells

    names = " / ".join(levels)
    head = [
        "devices", "captions with style words", f"ARI, number given: {names}", f"ARI, number found: {names}",
        f"one style is one group: {names}",
    ]  # fmt: skip
    return table(head, [line(*case) for case in cases])


def sums(result: Result) -> str:
    """Costs of clusters found by sums, ARI under losses and with larger groups, and devices that sums single out."""
    rows = [row for row in result["rows"] if row["part"] == "local"]
    if not rows:
        return NOT_YET
    found = {(row["devices"], row["style words"], row["number"]): row for row in rows}

    def line(devices: int, words: str) -> list[str]:
        given, free = (found[devices, words, number] for number in ("given", "found"))
        return [
            str(devices), words, f"{free['sums']:.3g}", f"{free['bytes_up'] / 1e3:.0f}",
            f"{free['bytes_down'] / 1e3:.0f}", *(f"{given[ari]:.3g} / {free[ari]:.3g}" for ari in _UNDER),
            _share(free["singled"]),
        ]  # fmt: skip

    head = [
        "devices", "captions with style words", "sums", "kB up", "kB down",
        "ARI, 30 % missing in each sum: number given / found", "ARI, groups of three at least: given / found",
        "singled out",
    ]  # fmt: skip
    return table(head, [line(*case) for case in dict.fromkeys((row["devices"], row["style words"]) for row in rows)])


def sums_attacked(result: Result) -> str:
    """Shares that the server tells of any device by name from the sums of one clustering."""
    rows = [row for row in result["rows"] if row["part"] == "local attack"]
    if not rows:
        return NOT_YET
    return table(
        ["taken for the code", "devices", *_SHARES, *_guess_heads(rows)],
        [
            [str(row["code"]), str(row["devices"]), *(_share(row[name]) for name in _SHARES), *_guesses(row)]
            for row in rows
        ],
    )


def sums_with_losses(result: Result) -> str:
    """Styles of devices that are missing in one sum, and are not in the one before."""
    rows = [row for row in result["rows"] if row["part"] == "local lost"]
    if not rows:
        return NOT_YET
    found = {(row["devices"], row["together"]): row["style"] for row in rows}
    numbers = list(dict.fromkeys(row["together"] for row in rows))
    crowds = list(dict.fromkeys(row["devices"] for row in rows))
    head = ["devices", *(f"style told, {number} missing at once" for number in numbers)]
    return table(head, [[str(one), *(f"{found[one, number]:.0%}" for number in numbers)] for one in crowds])


def noisy_sums(result: Result) -> str:
    """ARI of clusters found by sums with noise, by devices and epsilon."""
    rows = [row for row in result["rows"] if row["part"] == "local+dp"]
    if not rows:
        return NOT_YET
    found = {(row["devices"], row["style words"], row["epsilon"]): row for row in rows}
    epsilons = list(dict.fromkeys(row["epsilon"] for row in rows))

    def cell(row: Result) -> str:
        text = f"{row['ari']:.2f} ({row['ari_10']:.2f})"
        return f"{text}, refused" if row["too_few"] else text

    return table(
        ["devices", "captions with style words", *(f"epsilon {epsilon}" for epsilon in epsilons)],
        [
            [str(devices), words, *(cell(found[devices, words, epsilon]) for epsilon in epsilons)]
            for devices, words in dict.fromkeys((row["devices"], row["style words"]) for row in rows)
        ],
    )


def noise_attacked(result: Result) -> str:
    """Shares that the server tells of any device by name from the centroids of one clustering with noise."""
    rows = [row for row in result["rows"] if row["part"] == "local+dp attack"]
    if not rows:
        return NOT_YET
    return table(
        ["devices", "epsilon", *_SHARES, *_guess_heads(rows)],
        [
            [str(row["devices"]), str(row["epsilon"]), *(_share(row[name]) for name in _SHARES), *_guesses(row)]
            for row in rows
        ],
    )


def pictures(result: Result) -> str:
    """The pictures of an album that are named from picture codes."""
    rows = [row for row in result["rows"] if row["part"] == "pictures"]
    if not rows:
        return _UNMEASURED
    names = ("found", "styled", "voted", "informed", "chance")
    head = ["code", "pictures", *names, f"style (chance {_share(rows[0]['style_chance'])})", ""]
    return table(
        head,
        [
            [
                str(row["code"]), str(row["pictures"]), *(_share(row[name]) for name in names), f"{row['style']:.0%}",
                "not sent" if row["refused"] else "",
            ]
            for row in rows
        ],
    )  # fmt: skip


def picture_groups(result: Result) -> str:
    """ARI of the groups that are found from picture codes."""
    rows = [row for row in result["rows"] if row["part"] == "picture groups"]
    if not rows:
        return _UNMEASURED
    found = {(row["code"], row["devices"], row["number"]): row["ari"] for row in rows}
    levels = list(dict.fromkeys(row["code"] for row in rows))
    crowds = list(dict.fromkeys(row["devices"] for row in rows))

    def cell(devices: int, number: str) -> str:
        return " / ".join(f"{found[level, devices, number]:.2f}" for level in levels)

    head = ["devices", *(f"ARI, number {number}: {' / '.join(levels)}" for number in ("given", "found"))]
    return table(head, [[str(devices), cell(devices, "given"), cell(devices, "found")] for devices in crowds])


def _share(value: float) -> str:
    return f"{value:.1%}"


def _guess_heads(rows: Sequence[Result]) -> list[str]:
    first = rows[0]
    return [f"{name} (chance {_share(first[f'{name}_chance'])})" for name in ("style", "group")]


def _guesses(row: Result) -> list[str]:
    return [f"{row[name]:.0%}" for name in ("style", "group")]
