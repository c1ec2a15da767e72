"""The check of a device's prompt code, before the device takes part."""

from __future__ import annotations

from coordinator.rounds.state import Rules
from edge_sdk.wire import DeviceProfile


def problem_with_code(rules: Rules, profile: DeviceProfile) -> tuple[str, str] | None:
    """Return the reason why the code in a profile is refused, as its name and in words, or None.

    Codes are compared with each other: all are of one level, made with one basis, and of one size.
    """
    if profile.level != rules.privacy:
        return "PrivacyLevelMismatch", (
            f"This federation takes prompt codes of level {rules.privacy!r}, the device sent one of level "
            f"{profile.level!r}. If its owner agrees, let it join with privacy={rules.privacy!r} (`impasto join "
            f"--privacy {rules.privacy}`). An SDK of an earlier version sends 'plain' only: update it."
        )
    if profile.basis != rules.basis:
        return "PromptBasisMismatch", (
            f"The prompt code was made with basis {_short(profile.basis)}, those of this federation with "
            f"{_short(rules.basis)}: the device's bundle was exported with other public captions. Load the bundle of "
            "this federation."
        )
    size = rules.code_size
    if size is not None and len(profile.prompt_code) != size:
        return "PromptCodeMismatch", (
            f"The prompt code has {len(profile.prompt_code)} bytes, those of this federation have {size}: encode with "
            "the text encoder of the bundle."
        )
    return None


def _short(basis: bytes) -> str:
    return f"{basis.hex()[:12]}…" if basis else "none"
