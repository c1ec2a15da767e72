"""The check of a device's profile, before the device takes part."""

from __future__ import annotations

from coordinator.rounds.state import Rules
from edge_sdk.wire import DeviceProfile


def problem_with_profile(rules: Rules, profile: DeviceProfile) -> tuple[str, str] | None:
    """Return the reason why a device with this profile cannot take part, as its name and in words, or None."""
    if profile.base_id != rules.base_id:
        return "BaseModelMismatch", (
            f"This federation is of base model {rules.base_id[:12]}…, the device has {profile.base_id[:12]}…: "
            "load the bundle of this federation, or join another one."
        )
    if profile.max_rank < rules.min_rank:
        return "RankTooSmall", f"This federation's method needs rank {rules.min_rank}; raise max_rank to it."
    return (
        _problem_with_level(rules, profile)
        or _problem_with_prompt_code(rules, profile)
        or _problem_with_picture_code(rules, profile)
    )


def _problem_with_level(rules: Rules, profile: DeviceProfile) -> tuple[str, str] | None:
    """Codes are of one level; where devices choose their clusters alone, there are none."""
    if profile.level != rules.privacy:
        return "PrivacyLevelMismatch", (
            f"This federation takes codes of level {rules.privacy!r}, the device sent those of level "
            f"{profile.level!r}. If its owner agrees, let it join with privacy={rules.privacy!r} (`impasto join "
            f"--privacy {rules.privacy}`). An SDK of an earlier version sends 'plain' only: update it."
        )
    if rules.alone and (profile.prompt_code or profile.picture_code):
        return "PrivacyLevelMismatch", (
            f"At level {rules.privacy!r} no code leaves a device, and this profile has one, which was not kept: update "
            "the device's SDK."
        )
    return None


def _problem_with_prompt_code(rules: Rules, profile: DeviceProfile) -> tuple[str, str] | None:
    """Codes are compared with each other: all are made with one basis, and of one size."""
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


def _problem_with_picture_code(rules: Rules, profile: DeviceProfile) -> tuple[str, str] | None:
    """A device may send none. The level, which is that of the prompt code too, is checked before."""
    if not profile.picture_code or rules.picture_size is None:
        return None
    if profile.picture_encoder != rules.picture_encoder:
        return "PictureEncoderMismatch", (
            f"The picture code was made with image encoder {_short(profile.picture_encoder)}, those of this federation "
            f"with {_short(rules.picture_encoder)}: the device's bundle was exported with another one. Load the bundle "
            "of this federation, or send none (`impasto join --no-picture-code`, share_picture_code=False)."
        )
    if len(profile.picture_code) != rules.picture_size:
        return "PictureCodeMismatch", (
            f"The picture code has {len(profile.picture_code)} bytes, those of this federation have "
            f"{rules.picture_size}: encode with the image encoder of this federation's bundle, or send none."
        )
    return None


def _short(id: bytes) -> str:
    return f"{id.hex()[:12]}…" if id else "none"
