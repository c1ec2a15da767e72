"""The part of `impasto doctor` about the board itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edge_sdk.cli.doctor.findings import shown
from edge_sdk.cli.terminal import console


def look(*, show: bool) -> dict[str, Any]:
    """Facts of the board and findings about it, as plain values. show: print them, too."""
    from edge_sdk.diagnosis import BoardFacts, check_board

    facts = BoardFacts.read()
    findings = list(check_board(facts))
    if show and (facts.model or findings):
        console().print(f"\n{facts.model or 'board'}", style="bold", markup=False)
        for finding in findings:
            console().print(shown(finding))
    return {**facts.as_values(), "findings": [asdict(finding) for finding in findings]}
