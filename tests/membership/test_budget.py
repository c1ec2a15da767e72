"""Level "local+dp" on the device: its owner's epsilon, the budget in its journal, and questions that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.msgpack import encode
from msgspec.structs import replace

from edge_sdk.cli.doctor import way
from edge_sdk.errors import DeadlineExceeded, PrivacyRefused
from edge_sdk.membership import Membership, spent_budget
from edge_sdk.membership.journal import Journal
from edge_sdk.privacy import MOST_CLUSTERINGS, Guarantee, Question, Spent
from edge_sdk.secure_aggregation import device
from edge_sdk.transport import Settings
from edge_sdk.wire.messages import ClusterStart, Finished, Join, Presence, Welcome
from edge_sdk.wire.signing import Signer
from tests.coordinator.adapters import BASE_ID
from tests.integration.devices import coarse_code, local_profile
from tests.membership.stage import Me, Stage, start
from tests.membership.test_privacy import MASKING

NOISE = Guarantee(epsilon=4.0, delta=1e-5)
PROFILE = local_profile(0, level="local+dp")
CODE = coarse_code("apples", 0)
MEAN = Question(epoch=1, clustering=1, number=1, kind="places", sizes=(1,), centroids=bytes(32), slots=bytes(1))
SPREAD = Question(epoch=1, clustering=1, number=2, kind="spread", around=bytes(32))


def ask_for(stage: Stage, noise: Guarantee | None = NOISE, level: str = "local+dp") -> None:
    signer = Signer(bytes(32), "tastes")
    stage.show(signer.state(online=True, epoch=1, base_id=BASE_ID, level=level, masked=True, noise=noise))


def asked(question: Question, noise: Guarantee | None = NOISE) -> ClusterStart:
    return ClusterStart(attempt=1, question=encode(question), smallest=3, masking=MASKING, deadline=60.0, noise=noise)


def me(url: str, home: Path, **values: Any) -> Me:
    given = {"profile": PROFILE, "deadline": 1.0, "code": CODE, "epsilon": 4.0, **values}
    return Me(url, home, lambda plan: pytest.fail("trained"), **given)


@pytest.mark.parametrize(
    ("noise", "level", "allowed", "why"),
    [
        (NOISE, "local+dp", 3.9, r"answers of epsilon 4 .*allows 3\.9 at most: nothing was sent.*--epsilon 4"),
        (NOISE, "local+dp", 0.0, "allows 0 at most"),
        (None, "local+dp", 4.0, "without an epsilon"),
        (NOISE, "local", 4.0, "with an epsilon"),
    ],
)
def test_more_than_an_owner_allows_ends_the_membership_before_anything_is_said(
    url: str, stage: Stage, tmp_path: Path, noise: Guarantee | None, level: str, allowed: float, why: str
) -> None:
    ask_for(stage, noise, level)
    profiles = [PROFILE, local_profile(0)]
    with (
        Membership(url, "tastes", "me", profiles, tmp_path, lambda plan: pytest.fail("trained"), epsilon=allowed) as it,
        pytest.raises(PrivacyRefused, match=why),
    ):
        it.run(answer=0.2, deadline=0.2)
    while not stage.heard.empty():
        assert isinstance(stage.heard.get(), Presence)


def test_the_owner_is_told_what_is_agreed_on(url: str, stage: Stage, tmp_path: Path) -> None:
    ask_for(stage)
    mine = me(url, tmp_path)
    assert stage.hear(Join).profile.level == "local+dp"
    stage.say(Welcome(round=0, rounds=3))
    agreed = mine.told("privacy_agreed")
    assert (agreed["level"], agreed["epsilon"], agreed["delta"]) == ("local+dp", 4.0, 1e-5)
    assert isinstance(mine.error(), DeadlineExceeded)


@pytest.mark.parametrize("noise", [None, replace(NOISE, epsilon=8.0), replace(NOISE, delta=1e-4)])
def test_a_question_with_other_noise_is_not_listened_to(
    url: str, stage: Stage, tmp_path: Path, noise: Guarantee | None
) -> None:
    ask_for(stage)
    mine = me(url, tmp_path)
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.say(asked(MEAN, noise))
    refused = mine.told("step_refused")
    assert (refused["code"], "other noise" in refused["reason"]) == ("PrivacyRefused", True)
    assert isinstance(mine.error(), DeadlineExceeded)


@pytest.mark.parametrize(
    "question",
    [
        Question(epoch=1, clustering=1, number=1, kind="spread"),
        Question(epoch=1, clustering=1, number=2, kind="counts", sizes=(1,), centroids=bytes(32), slots=bytes(1)),
        replace(MEAN, sizes=(1, 1), centroids=bytes(64), slots=bytes(2)),
    ],
)
def test_a_question_that_has_no_answer_with_noise_is_refused(
    url: str, stage: Stage, tmp_path: Path, question: Question
) -> None:
    ask_for(stage)
    mine = me(url, tmp_path)
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.say(asked(question))
    assert mine.told("question_refused")["code"] == "PrivacyRefused"
    assert isinstance(mine.error(), DeadlineExceeded)


def test_a_budget_that_is_spent_refuses_another_answer_in_a_later_session(
    url: str, stage: Stage, tmp_path: Path
) -> None:
    """Under another name of the device, too. What is left is enough for a cheaper question."""
    spent = Spent(squares=0.8 * NOISE.mu**2, answers=3, delta=1e-5)
    journal = Journal(tmp_path / "journal.sqlite")
    journal.claim("tastes", "formerly")
    journal.keep_sum(device.State(), vector=False, spent=spent)
    journal.claim("tastes", "me")
    assert journal.spent == spent
    journal.close()
    ask_for(stage)
    mine = me(url, tmp_path)
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.say(asked(SPREAD))
    refused = mine.told("question_refused")
    assert refused["code"] == "PrivacyBudgetSpent"
    assert "3 answers to questions have spent epsilon" in refused["reason"]
    stage.say(replace(asked(MEAN), attempt=2))
    assert mine.told("question_asked")["kind"] == "places"
    assert "did not finish the masked sum of answers to its question" in str(mine.error())
    assert spent_budget(tmp_path) == spent, "nothing has left"


def test_the_doctor_shows_what_is_spent(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.claim("tastes", "me")
    nobody = Settings(url="mqtt://127.0.0.1:1")

    def shown() -> list[str]:
        found = way.look(nobody, "tastes", None, None, tmp_path, show=False)
        return [finding["what"] for finding in found if finding["section"] == "privacy"]

    assert shown() == []
    spent = Spent(squares=NOISE.mu**2, answers=4, delta=1e-5)
    journal.keep_sum(device.State(), vector=False, spent=spent)
    (said,) = shown()
    assert "4 answers of this device to questions about its taste have spent epsilon 4 (delta 1e-05)" in said
    journal.close()


def test_a_home_without_a_journal_has_spent_nothing(tmp_path: Path) -> None:
    assert spent_budget(tmp_path) == Spent()
    Journal(tmp_path / "journal.sqlite").close()
    assert spent_budget(tmp_path) == Spent()


@pytest.mark.parametrize("level", ["local", "local+dp"])
def test_a_ninth_set_of_centroids_is_not_chosen_from(url: str, stage: Stage, tmp_path: Path, level: str) -> None:
    """Counts among many would tell a code, to a coordinator that does not keep to the protocol."""
    journal = Journal(tmp_path / "journal.sqlite")
    for number in range(MOST_CLUSTERINGS):
        assert journal.choose_among(bytes([number]) * 32, MOST_CLUSTERINGS)
    journal.close()
    ask_for(stage, NOISE if level == "local+dp" else None, level)
    mine = me(url, tmp_path, profile=local_profile(0, level=level), deadline=2.0)
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    choice: dict[str, Any] = {"stage": "cluster", "cluster": None, "masking": MASKING}
    stage.say(start(1, **choice, centroids=bytes([99]) * 32))
    refused = mine.told("step_refused")
    assert (refused["code"], "8 sets" in refused["reason"]) == ("PrivacyRefused", True)
    stage.say(Finished(rounds=3, cluster=None, adapters=[], centroids=bytes([7]) * 32))
    assert mine.result().finished
