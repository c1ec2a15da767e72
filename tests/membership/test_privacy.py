"""A device sends no code of a level that its owner does not allow."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.msgpack import encode
from msgspec.structs import replace

from edge_sdk.adapter import Share
from edge_sdk.errors import ConfigurationError, DeadlineExceeded, PrivacyRefused
from edge_sdk.membership import Membership, rounds
from edge_sdk.privacy import Answered, Question, counts_question
from edge_sdk.secure_aggregation import Advertisement, Roster, device
from edge_sdk.wire.messages import ClusterStart, DeviceProfile, Finished, Join, Masking, Presence, Welcome
from edge_sdk.wire.signing import Signer
from tests.coordinator.adapters import BASE_ID
from tests.integration.devices import coarse_code, local_profile, profile
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


CHOICE: dict[str, Any] = {"stage": "cluster", "cluster": None, "masking": MASKING, "centroids": bytes(64)}
SPREAD = Question(epoch=1, clustering=1, number=1, kind="spread")


def asked(question: bytes) -> ClusterStart:
    return ClusterStart(attempt=1, question=question, smallest=3, masking=MASKING, deadline=60.0)


@pytest.mark.parametrize(
    "step",
    [start(1, **CHOICE), asked(encode(SPREAD)), Finished(rounds=3, cluster=None, adapters=[], centroids=bytes(32))],
)
def test_at_another_level_a_device_is_asked_for_no_choice(url: str, stage: Stage, tmp_path: Path, step: Any) -> None:
    ask_for(stage, "plain", masked=True)
    me = Me(url, tmp_path, lambda plan: pytest.fail("trained"), profile=PLAIN, deadline=1.0)
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.say(step)
    refused = me.told("step_refused")
    assert (refused["code"], "lets this device choose" in refused["reason"]) == ("PrivacyRefused", True)
    assert isinstance(me.error(), DeadlineExceeded)


@pytest.mark.parametrize(
    "step",
    [
        start(1, stage="cluster", cluster=0, masking=MASKING),
        Finished(rounds=3, cluster=0, adapters=[]),
    ],
)
def test_who_names_the_cluster_of_a_device_that_chooses_alone_is_not_listened_to(
    url: str, stage: Stage, tmp_path: Path, step: Any
) -> None:
    ask_for(stage, "local", masked=True)
    code = coarse_code("apples", 0)
    me = Me(
        url, tmp_path, lambda plan: pytest.fail("trained"), profile=local_profile(0), deadline=1.0, code=code
    )  # fmt: skip
    assert stage.hear(Join).profile.prompt_code == b""
    stage.say(Welcome(round=0, rounds=3))
    stage.say(step)
    refused = me.told("step_refused")
    assert (refused["code"], "nobody else can know it" in refused["reason"]) == ("PrivacyRefused", True)
    assert isinstance(me.error(), DeadlineExceeded)


def test_a_device_that_chooses_alone_sends_no_update_by_itself(url: str, stage: Stage, tmp_path: Path) -> None:
    ask_for(stage, "local", masked=True)
    me = Me(url, tmp_path, lambda plan: pytest.fail("trained"), profile=local_profile(0), code=coarse_code("apples", 0))
    stage.hear(Join)
    stage.say(start(1))
    assert isinstance(error := me.error(), PrivacyRefused)
    assert "asks for the update of round 1 by itself" in str(error)


def test_the_level_goes_with_masks_only(url: str, stage: Stage, tmp_path: Path) -> None:
    ask_for(stage, "local")
    with pytest.raises(PrivacyRefused, match="shows the taste that this level keeps here: nothing was sent"):
        run(url, tmp_path, local_profile(0))


@pytest.mark.parametrize(
    ("question", "code"),
    [
        (b"\x80", "MessageInvalid"),
        (encode(replace(SPREAD, number=2)), "AttemptMismatch"),
        (encode(counts_question(bytes(64))), "AttemptMismatch"),
        (encode(replace(SPREAD, kind="places")), "MessageInvalid"),
    ],
)
def test_questions_that_are_none_or_do_not_follow_are_not_answered(
    url: str, stage: Stage, tmp_path: Path, question: bytes, code: str
) -> None:
    ask_for(stage, "local", masked=True)
    own = coarse_code("apples", 0)
    me = Me(url, tmp_path, lambda plan: pytest.fail("trained"), profile=local_profile(0), deadline=1.0, code=own)
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.say(asked(question))
    assert me.told("question_refused")["code"] == code
    assert isinstance(me.error(), DeadlineExceeded)


def test_a_roster_that_would_show_a_code_by_a_difference_is_refused() -> None:
    """The last sum was of six devices; one of them is missing."""
    names = [f"device-{number}" for number in range(6)]
    entries = [
        Advertisement(
            device=name, identity=bytes(32), mask_key=bytes(32), share_key=bytes(32), commitment=bytes(32),
            signature=bytes(64),
        )
        for name in names
    ]  # fmt: skip
    step = asked(encode(SPREAD))
    given = rounds.Rules(federation="tastes", masks=device.Rules(device="device-0", identity=bytes(32)), code=bytes(16))
    state = rounds.State(phase="summing", step=step, answered_last=Answered(SPREAD, frozenset(names), 1))
    for number, code in ((5, "RosterInvalid"), (3, "AttemptMismatch"), (6, "AttemptMismatch")):
        roster = Roster(epoch=1, round=0, attempt=1, neighbours=2, threshold=2, devices=entries[:number])
        _, actions = rounds.step(given, state, rounds.SumHeard(roster), 0.0)
        (told,) = [action.values for action in actions if isinstance(action, rounds.Tell)]
        assert told["code"] == code, "others reach the sum itself, which has not begun"
