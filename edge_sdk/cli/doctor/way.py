"""The part of `impasto doctor --broker` that shows the way to a federation on the terminal."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.cli.doctor.findings import shown
from edge_sdk.cli.terminal import console

if TYPE_CHECKING:
    from edge_sdk.diagnosis import Finding
    from edge_sdk.transport import Settings


def look(
    settings: Settings, federation: str | None, device: str | None, trust: str | None, home: Path | None, *, show: bool
) -> list[dict[str, Any]]:
    """All findings as plain values. show: print each of them as it comes."""
    from edge_sdk.diagnosis import Finding, diagnose
    from edge_sdk.membership import home_federation, kept_id, spent_budget, trusted_key
    from edge_sdk.wire import read_fingerprint

    pinned = read_fingerprint(trust) if trust else None
    known = trusted_key(home) if home else None
    if home and not device:
        device = kept_id(home)
    found = []

    def take(finding: Finding) -> None:
        if show:
            console().print(shown(finding))
        found.append(asdict(finding))

    if home and federation and (theirs := home_federation(home)) not in (None, federation):
        known = None  # it is the key of another federation's coordinator
        take(
            Finding(
                "home",
                "broken",
                f"{home} is the home of a device in federation {theirs!r}, not in {federation!r}.",
                f"It trusts the coordinator of {theirs!r}, and holds the adapters of that one.",
                "Give each federation a home of its own (--home FOLDER).",
            )
        )
    elif home and federation and (spent := spent_budget(home)).answers:
        take(
            Finding(
                "privacy",
                "ok",
                f"{spent.answers} answers of this device to questions about its taste have spent epsilon "
                f"{spent.epsilon:.3g} (delta {spent.delta:g}) in this federation.",
            )
        )
    for finding in diagnose(settings, federation=federation, device=device, trust=pinned, known=known):
        take(finding)
    return found
