"""One home, one federation, one identity; and a disk, a clock or a coordinator that is not what it should be."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import ConfigurationError, DeadlineExceeded, JournalError, Rejected, UnknownFederation
from edge_sdk.membership import Membership, RoundPlan, TrainedUpdate, home_federation, keep_id, kept_id
from edge_sdk.membership.home import Home
from edge_sdk.membership.journal import Journal
from edge_sdk.wire.messages import Committed, Finished, Join, Offer, Refused, RoundDone, Welcome
from tests.coordinator.adapters import random_adapter
from tests.integration.devices import profile
from tests.membership.stage import Learner, Me, Stage, join, leave_over, start


class TestACopiedCard:
    """Two devices with one name and one home: the coordinator counts the update of one of them, and says so to both."""

    def test_the_copy_is_not_told_that_its_update_counts(self, url: str, stage: Stage, tmp_path: Path) -> None:
        me = Me(url, tmp_path, Learner())
        join(stage)
        stage.say(start())
        offer = stage.hear(Offer)
        stage.say(RoundDone(round=1, accepted=True, updates=2))  # the other one's
        again = stage.hear(Offer)
        assert again == offer
        stage.say(Refused(code="StaleUpdate", reason="closed", about=offer.manifest.sha256))
        stage.say(Finished(rounds=1, cluster=0, adapters=[]))
        assert me.result().updates == 0
        assert me.named("update_committed") == []
        (told,) = me.named("identity_shared")
        assert "another device has its name" in told["reason"]

    def test_but_one_whose_acknowledgement_was_lost_is(self, url: str, stage: Stage, tmp_path: Path) -> None:
        me = Me(url, tmp_path, Learner())
        join(stage)
        stage.say(start())
        stage.hear(Offer)
        stage.say(RoundDone(round=1, accepted=True, updates=2))
        stage.say(start(2))  # comes before the answer, and is not forgotten
        offer = stage.hear(Offer)
        stage.say(Committed(sha256=offer.manifest.sha256))
        assert stage.hear(Offer).round == 2
        assert [event["round"] for event in me.named("update_committed")] == [1]
        assert me.named("identity_shared") == []

    def test_also_where_it_asks_after_a_restart(self, url: str, stage: Stage, tmp_path: Path) -> None:
        leave_over(tmp_path, "offered")
        me = Me(url, tmp_path, Learner())
        join(stage)
        stage.say(RoundDone(round=1, accepted=True, updates=2))
        offer = stage.hear(Offer)
        stage.say(Finished(rounds=1, cluster=0, adapters=[]))
        stage.say(Refused(code="StaleUpdate", reason="closed", about=offer.manifest.sha256))
        assert me.result().updates == 0
        assert len(me.named("identity_shared")) == 1


class TestTheHome:
    def membership(self, url: str, federation: str, home: Path) -> Membership:
        return Membership(url, federation, "me", profile("apples", 0), home, Learner())

    def test_is_of_the_federation_whose_coordinator_it_has_met(self, url: str, stage: Stage, tmp_path: Path) -> None:
        with self.membership(url, "tatses", tmp_path) as mistyped, pytest.raises(UnknownFederation):
            mistyped.run(answer=0.1)
        assert home_federation(tmp_path) is None
        me = Me(url, tmp_path, Learner())
        join(stage)
        stage.say(Finished(rounds=1, cluster=0, adapters=[]))
        me.result()
        assert home_federation(tmp_path) == "tastes"
        with pytest.raises(
            ConfigurationError, match=r"home of 'me' in federation 'tastes'.*'paintings' a home of its own"
        ):
            self.membership(url, "paintings", tmp_path)
        self.membership(url, "tastes", tmp_path).close()

    def test_of_an_earlier_version_is_one_as_well(self, tmp_path: Path) -> None:
        Home(tmp_path).journal().close()
        with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as sql:
            sql.execute("DROP TABLE owner")
            sql.commit()
        assert home_federation(tmp_path) is None
        with closing(Home(tmp_path).journal()) as journal:
            journal.check_owner("tastes")
            journal.claim("tastes", "me")
        assert home_federation(tmp_path) == "tastes"

    def test_of_another_device_hands_nothing_in_under_a_new_name(self, url: str, stage: Stage, tmp_path: Path) -> None:
        """`--device-id` was given with the home of another device, whose update counted a second time."""
        me = Me(url, tmp_path, Learner())
        join(stage)
        stage.say(start())
        stage.take(stage.hear(Offer))
        stage.say(Refused(code="Revoked", reason="", about="join"))
        assert isinstance(me.error(), Rejected)
        with closing(Home(tmp_path).journal()) as journal:
            assert journal.outbox is not None
            journal.claim("tastes", "me")
            assert journal.outbox is not None
            journal.claim("tastes", "another")
            assert journal.outbox is None
            assert journal.own() is None
            assert journal.trusted_key == stage.signer.public

    def test_keeps_the_name_of_the_device_twice(self, tmp_path: Path) -> None:
        assert kept_id(tmp_path) is None
        keep_id(tmp_path, "pi-4")
        with closing(Home(tmp_path).journal()) as journal:
            journal.claim("tastes", "pi-4")
        (tmp_path / "device_id").write_text("")  # cut short by a full disk
        assert kept_id(tmp_path) == "pi-4"
        (tmp_path / "device_id").unlink()
        assert kept_id(tmp_path) == "pi-4"

    @pytest.mark.parametrize("content", [b"pi 4/x\n", b"\xff\xfe"])
    def test_names_the_file_that_holds_no_name(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "device_id").write_bytes(content)
        with pytest.raises(ConfigurationError, match=f"{tmp_path}/device_id should hold this device's name"):
            kept_id(tmp_path)

    def test_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigurationError, match="as a device's home"):
            keep_id(tmp_path / "file" / "home", "pi-4")
        home = Home(tmp_path / "home")
        shutil.rmtree(tmp_path / "home")
        (tmp_path / "home").write_text("something else")
        with pytest.raises(ConfigurationError, match="as a device's home"):
            home.settle([], None, all_there_are=True)

    def test_whose_folders_disappear_gets_them_again(self, url: str, stage: Stage, tmp_path: Path) -> None:
        def train(plan: RoundPlan) -> TrainedUpdate:
            shutil.rmtree(tmp_path / "clusters")
            return Learner()(plan)

        me = Me(url, tmp_path, train)
        join(stage)
        stage.say(start())
        stage.take(stage.hear(Offer))
        own = stage.serve(random_adapter(3), "cluster", "cluster-2")
        stage.say(Finished(rounds=1, cluster=2, adapters=[own]))
        assert me.result().adapters["cluster-2"].is_file()


def test_an_update_that_cannot_be_kept_is_handed_in_first(
    url: str, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the training ends."""
    keep = Journal.keep_update

    def failing(journal: Journal, *given: Any) -> None:
        journal._sql.execute("PRAGMA query_only = ON")
        keep(journal, *given)

    monkeypatch.setattr(Journal, "keep_update", failing)
    me = Me(url, tmp_path, Learner())
    join(stage)
    stage.say(start())
    stage.take(stage.hear(Offer))
    error = me.error()
    assert isinstance(error, JournalError)
    assert "Make room on the disk" in str(error)
    assert [event["round"] for event in me.named("update_unkept")] == [1]
    assert [event["round"] for event in me.named("update_committed")] == [1]


def test_a_sign_that_a_dead_coordinator_left_is_told_for_what_it_is(url: str, stage: Stage, tmp_path: Path) -> None:
    stage.online(epoch=1_780_000_000)
    me = Me(url, tmp_path, Learner(), answer=0.5)
    error = me.error()
    assert isinstance(error, DeadlineExceeded)
    assert "online since 2026-" in str(error)
    assert "nothing else was heard of it" in str(error)
    assert "or be of an earlier version than this device" in str(error)
    assert "impasto-coordinator serve" in str(error)


def test_one_that_has_spoken_has_fallen_silent(url: str, stage: Stage, tmp_path: Path) -> None:
    me = Me(url, tmp_path, Learner(), deadline=0.5)
    stage.online()
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    error = me.error()
    assert isinstance(error, DeadlineExceeded)
    assert "(online) did not go on" in str(error)


@pytest.mark.parametrize(("ahead", "told"), [(0, 0), (10**9, 1)])
def test_a_clock_that_is_behind_the_coordinators_is_told(
    url: str, stage: Stage, tmp_path: Path, ahead: int, told: int
) -> None:
    me = Me(url, tmp_path, Learner())
    stage.online(epoch=1_780_000_000 + ahead)
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.say(Finished(rounds=1, cluster=0, adapters=[]))
    me.result()
    assert len(me.named("clock_suspect")) == told
