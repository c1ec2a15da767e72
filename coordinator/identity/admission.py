"""Admission of devices: open invitations, devices that have used theirs, and revoked devices.

The broker authenticates a device (by certificate or password) and applies its access rules to that name; this module
decides whether the federation admits it. The commands `invite` and `revoke` write while `serve` runs. `serve` checks
every Join and Offer, and looks up the revoked devices regularly, so that silent ones are found as well.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from edge_sdk.errors import StoreUnavailable
from edge_sdk.wire import SECRET_BYTES

_METADATA = sa.MetaData()
_ADMISSIONS = sa.Table(
    "admissions",
    _METADATA,
    sa.Column("device", sa.String(64), primary_key=True),
    sa.Column("secret_hash", sa.String(64), nullable=True),
    sa.Column("expires", sa.Float, nullable=True),
    sa.Column("enrolled", sa.Boolean, nullable=False, default=False),
    sa.Column("revoked", sa.Boolean, nullable=False, default=False),
)


@dataclass(frozen=True)
class Refusal:
    """Reason for turning a device away.

    Attributes:
        code: name of the reason.
        reason: the reason in words.
    """

    code: str
    reason: str


REVOKED = Refusal("Revoked", "This device was shut out of the federation. Ask its operator.")
HAS_LEFT = Refusal("HasLeft", "This device takes no part: it said Leave, or was shut out. Say Join first.")


class Admissions:
    """The table of admissions in a federation's database.

    Args:
        engine: the database.
        by_invitation: true if only invited devices may join; false: all but the revoked ones.
    """

    def __init__(self, engine: sa.Engine, *, by_invitation: bool) -> None:
        _METADATA.create_all(engine)
        self._engine = engine
        self._by_invitation = by_invitation

    def invite(self, device: str, expires: float) -> bytes:
        """Return the secret of a new invitation, which replaces an earlier one and lifts a revocation.

        Args:
            device: name of the device.
            expires: end of the invitation, in Unix seconds.
        """
        secret = secrets.token_bytes(SECRET_BYTES)
        row = {"secret_hash": _hash(secret), "expires": expires, "enrolled": False, "revoked": False}
        self._write(device, row)
        return secret

    def revoke(self, device: str) -> None:
        """Shut a device out until it is invited again."""
        self._write(device, {"secret_hash": None, "expires": None, "enrolled": False, "revoked": True})

    @property
    def revoked(self) -> frozenset[str]:
        """All revoked devices; raises StoreUnavailable as `problem`."""
        with _store_errors(), self._engine.connect() as connection:
            rows = connection.execute(sa.select(_ADMISSIONS.c.device).where(_ADMISSIONS.c.revoked))
            return frozenset(row.device for row in rows)

    def problem(self, device: str, secret: bytes = b"", *, now: float) -> Refusal | None:
        """Return the reason why a device may not take part, or None if it may; a valid secret is used up.

        Args:
            device: name of the device.
            secret: secret of its invitation, if it sent one.
            now: Unix seconds.

        Raises:
            StoreUnavailable: the table cannot be read, or the secret cannot be used up.
        """
        with _store_errors(), self._engine.begin() as connection:
            row = connection.execute(sa.select(_ADMISSIONS).where(_ADMISSIONS.c.device == device)).first()
            if row is not None and row.revoked:
                return REVOKED
            if not self._by_invitation or (row is not None and row.enrolled):
                return None
            if row is None or not secret:
                return Refusal(
                    "NotInvited",
                    f"This federation takes invited devices only: ask its operator for an invitation of {device!r}, "
                    "and join with it once (`impasto join --invitation-file`).",
                )
            if not hmac.compare_digest(_hash(secret), row.secret_hash or ""):
                return Refusal("InvitationInvalid", f"Not the last invitation of {device!r}: ask for a new one.")
            if now > (row.expires or 0.0):
                return Refusal("InvitationExpired", "The invitation has run out: ask for a new one.")
            used = {"secret_hash": None, "expires": None, "enrolled": True}
            connection.execute(_ADMISSIONS.update().where(_ADMISSIONS.c.device == device).values(used))
            return None

    @staticmethod
    def erase(connection: sa.Connection, device: str) -> None:
        """Delete the row of a device in a transaction; a revocation stays, as it is the operator's."""
        rows = (_ADMISSIONS.c.device == device) & ~_ADMISSIONS.c.revoked
        connection.execute(_ADMISSIONS.delete().where(rows))

    def _write(self, device: str, row: dict[str, object]) -> None:
        with _store_errors(), self._engine.begin() as connection:
            connection.execute(_ADMISSIONS.delete().where(_ADMISSIONS.c.device == device))
            connection.execute(_ADMISSIONS.insert().values(device=device, **row))


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except sa.exc.OperationalError as error:
        raise StoreUnavailable(
            f"The table of admissions cannot be used ({error.orig}): see to the database and its disk."
        ) from error


def _hash(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()
