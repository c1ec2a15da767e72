"""A device sends no code of a level that its owner does not allow."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.adapter import Share
from edge_sdk.errors import ConfigurationError, DeadlineExceeded, PrivacyRefused
from edge_sdk.membership import Membership
from edge_sdk.wire.messages import DeviceProfile, Join, Masking, Presence, Welcome
from edge_sdk.wire.signing import Signer
from tests.coordinator.adapters import BASE_ID
from tests.integration.devices import profile
from tests.membership.stage import Me, Stage, start

MASKING = Masking(
    epoch=0, largest_weight=64, largest_change=1.0, colluding=0.1, dropping=0.3, security_bits=40, failure_bits=20
)
PLAIN = profile("apples", 0, picture_code=bytes(20), picture_encoder=bytes(32))
COARSE = profile(
    "apples",
    0,
    prompt_code=bytes(16),
    level="coarse",
    basis=bytes(32),
    picture_code=bytes(5),
    picture_encoder=bytes(32),
)


def ask_for(stage: Stage, level: str, epoch: int = 1, *, masked: bool = False) -> None:
    signer = Signer(bytes(32), "tastes")
    stage.show(signer.state(online=True, epoch=epoch, base_id=BASE_ID, level=level, masked=masked))


def run(url: str, home: Path, allowed: Any, *, masked_only: bool = False) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    with (
        Membership(
            url,
            "tastes",
            "me",
            allowed,
            home,
            lambda plan: pytest.fail("trained"),
            events.append,
            masked_only=masked_only,
        ) as mine,
        suppress(DeadlineExceeded),  # nobody answers
    ):
        mine.run(answer=0.2, deadline=0.2)
    return events


@pytest.mark.parametrize("level", ["plain", "local"])
def test_a_level_that_is_not_allowed_ends_the_membership_before_anything_is_said(
    url: str, stage: Stage, tmp_path: Path, level: str
) -> None:
    ask_for(stage, level)
    said = rf"asks for codes of level '{level}'.*allows 'coarse': nothing was sent.*--privacy {level}"
    with pytest.raises(PrivacyRefused, match=said):
        run(url, tmp_path, COARSE)
    heard = []
    while not stage.heard.empty():
        heard.append(stage.heard.get())
    assert all(isinstance(message, Presence) for message in heard)


@pytest.mark.parametrize(("level", "expected"), [("plain", PLAIN), ("coarse", COARSE)])
def test_of_several_the_federations_is_sent(
    url: str, stage: Stage, tmp_path: Path, level: str, expected: DeviceProfile
) -> None:
    ask_for(stage, level)
    events = run(url, tmp_path, [PLAIN, COARSE])
    sent = stage.hear(Join).profile
    assert (sent.level, sent.prompt_code, sent.basis) == (level, expected.prompt_code, expected.basis)
    assert (sent.picture_code, sent.picture_encoder) == (expected.picture_code, expected.picture_encoder)
    assert [(event["level"], event["picture_code"]) for event in events if event["event"] == "privacy_agreed"] == [
        (level, True)
    ]


def test_a_later_start_that_asks_for_another_level_is_refused_too(url: str, stage: Stage, tmp_path: Path) -> None:
    ask_for(stage, "coarse")
    me = Me(url, tmp_path, lambda plan: pytest.fail("trained"), profile=COARSE)
    joins = [stage.hear(Join)]
    stage.say(Welcome(round=0, rounds=3))
    me.told("joined")
    ask_for(stage, "plain", epoch=2)
    error = me.error()
    assert isinstance(error, PrivacyRefused)
    assert "level 'plain'" in str(error)
    while not stage.heard.empty():
        if isinstance(message := stage.heard.get(), Join):
            joins.append(message)
    assert {join.profile.level for join in joins} == {"coarse"}


def test_where_updates_are_not_masked_a_device_that_allows_nothing_else_says_nothing(
    url: str, stage: Stage, tmp_path: Path
) -> None:
    ask_for(stage, "plain")
    with pytest.raises(PrivacyRefused, match=r"asks for each update by itself.*nothing was sent.*--masked-only"):
        run(url, tmp_path, PLAIN, masked_only=True)
    heard = []
    while not stage.heard.empty():
        heard.append(stage.heard.get())
    assert all(isinstance(message, Presence) for message in heard)


def test_a_coordinator_that_says_masked_and_asks_for_an_update_by_itself_gets_none(
    url: str, stage: Stage, tmp_path: Path
) -> None:
    ask_for(stage, "plain", masked=True)
    me = Me(url, tmp_path, lambda plan: pytest.fail("trained"), profile=PLAIN, masked_only=True)
    stage.hear(Join)
    stage.say(start(1))
    error = me.error()
    assert isinstance(error, PrivacyRefused)
    assert "asks for the update of round 1 by itself" in str(error)


def test_a_masked_sum_of_something_else_than_factors_is_refused_by_name(url: str, stage: Stage, tmp_path: Path) -> None:
    """Nothing is trained for it; the device waits for another step."""
    ask_for(stage, "plain", masked=True)
    me = Me(url, tmp_path, lambda plan: pytest.fail("trained"), profile=PLAIN, deadline=1.0)
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.say(start(1, share=Share.CORE, masking=MASKING))
    refused = me.told("step_refused")
    assert refused["code"] == "MessageInvalid"
    assert "a masked sum of what devices train as 'core'" in refused["reason"]
    assert isinstance(me.error(), DeadlineExceeded)


def test_an_owner_who_allows_nothing_is_told(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="allow one privacy level at least"):
        run(url, tmp_path, [])
