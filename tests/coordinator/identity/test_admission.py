"""Invitations, their use, and revocation, in a real database."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.identity.admission import Admissions
from coordinator.store import Database
from edge_sdk.errors import StoreUnavailable
from tests.coordinator.adapters import BASE_ID


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(f"sqlite:///{tmp_path / 'c.sqlite'}", "tastes", BASE_ID)


def code(admissions: Admissions, device: str, secret: bytes = b"", now: float = 10.0) -> str | None:
    refusal = admissions.problem(device, secret, now=now)
    return refusal.code if refusal else None


def test_an_open_federation_takes_all_but_the_revoked(database: Database) -> None:
    admissions = Admissions(database.engine, by_invitation=False)
    assert code(admissions, "pi-4") is None
    admissions.revoke("pi-4")
    assert code(admissions, "pi-4") == "Revoked"
    assert code(admissions, "pi-5") is None
    admissions.invite("pi-4", expires=20.0)
    assert code(admissions, "pi-4") is None


def test_a_table_that_cannot_be_written_is_named(database: Database) -> None:
    admissions = Admissions(database.engine, by_invitation=False)
    with database.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE admissions"))
    with pytest.raises(StoreUnavailable, match="table of admissions"):
        admissions.revoke("pi-4")
    with pytest.raises(StoreUnavailable, match="table of admissions"):
        admissions.invite("pi-4", expires=20.0)


def test_all_that_are_shut_out_are_found_at_once(database: Database) -> None:
    admissions = Admissions(database.engine, by_invitation=False)
    assert admissions.revoked == frozenset()
    for name in ("pi-4", "pi-5", "pi-6"):
        admissions.revoke(name)
    admissions.invite("pi-5", expires=20.0)
    queries: list[str] = []
    sa.event.listen(database.engine, "before_cursor_execute", lambda *given: queries.append(given[2]))
    assert admissions.revoked == {"pi-4", "pi-6"}
    assert len(queries) == 1


class TestByInvitation:
    def test_once_and_then_for_good(self, database: Database) -> None:
        admissions = Admissions(database.engine, by_invitation=True)
        assert code(admissions, "pi-4") == "NotInvited"
        secret = admissions.invite("pi-4", expires=20.0)
        assert code(admissions, "pi-4") == "NotInvited"
        assert code(admissions, "pi-5", secret) == "NotInvited"
        assert code(admissions, "pi-4", bytes(16)) == "InvitationInvalid"
        assert code(admissions, "pi-4", secret) is None
        again = Admissions(database.engine, by_invitation=True)  # a coordinator that has restarted
        assert code(again, "pi-4", now=1e9) is None
        assert code(again, "pi-4", secret) is None

    def test_it_runs_out(self, database: Database) -> None:
        admissions = Admissions(database.engine, by_invitation=True)
        secret = admissions.invite("pi-4", expires=20.0)
        assert code(admissions, "pi-4", secret, now=20.1) == "InvitationExpired"
        assert code(admissions, "pi-4", admissions.invite("pi-4", expires=30.0), now=20.1) is None

    def test_a_new_one_replaces_the_old(self, database: Database) -> None:
        admissions = Admissions(database.engine, by_invitation=True)
        old = admissions.invite("pi-4", expires=20.0)
        new = admissions.invite("pi-4", expires=20.0)
        assert code(admissions, "pi-4", old) == "InvitationInvalid"
        assert code(admissions, "pi-4", new) is None

    def test_a_revoked_device_stays_outside_with_its_old_secret(self, database: Database) -> None:
        admissions = Admissions(database.engine, by_invitation=True)
        secret = admissions.invite("pi-4", expires=20.0)
        admissions.revoke("pi-4")
        assert code(admissions, "pi-4", secret) == "Revoked"

    def test_secrets_are_not_stored(self, database: Database, tmp_path: Path) -> None:
        secret = Admissions(database.engine, by_invitation=True).invite("pi-4", expires=20.0)
        database.close()
        assert all(secret not in path.read_bytes() for path in tmp_path.iterdir())
