"""Sketches of updates, by name: stored for clustering, so that each is computed once.

A lost sketch costs time only: it is made again.
"""

from __future__ import annotations

import logging
from collections.abc import Set
from typing import Protocol

import sqlalchemy as sa

_METADATA = sa.MetaData()
_SKETCHES = sa.Table(
    "sketches",
    _METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
_AT_ONCE = 500  # rows of one statement
_log = logging.getLogger(__name__)


class SketchStore(Protocol):
    """A store of sketches."""

    def put(self, name: str, data: bytes) -> None:
        """Store the data under that name, in place of an earlier value."""

    def get(self, name: str) -> bytes | None:
        """Return the data with that name; None if there is none."""

    def prune(self, keep: Set[str]) -> int:
        """Delete all other sketches; return their number."""


class MemorySketches:
    """Sketches in memory."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        self._data[name] = data

    def get(self, name: str) -> bytes | None:
        return self._data.get(name)

    def prune(self, keep: Set[str]) -> int:
        gone = self._data.keys() - keep
        for name in gone:
            del self._data[name]
        return len(gone)


class SqlSketches:
    """Sketches in a table of the coordinator's database. A failing database is logged, and costs the sketch only."""

    def __init__(self, engine: sa.Engine) -> None:
        _METADATA.create_all(engine)
        self._engine = engine

    def put(self, name: str, data: bytes) -> None:
        try:
            with self._engine.begin() as connection:
                connection.execute(_SKETCHES.delete().where(_SKETCHES.c.name == name))
                connection.execute(_SKETCHES.insert().values(name=name, data=data))
        except sa.exc.OperationalError as error:  # the disk is full, say
            _log.warning("A sketch is not kept, and will be made again: %s.", error.orig)

    def get(self, name: str) -> bytes | None:
        try:
            with self._engine.connect() as connection:
                query = sa.select(_SKETCHES.c.data).where(_SKETCHES.c.name == name)
                found: bytes | None = connection.execute(query).scalar()
        except sa.exc.OperationalError as error:
            _log.warning("A sketch cannot be read, and is made again: %s.", error.orig)
            return None
        return found

    def prune(self, keep: Set[str]) -> int:
        try:
            with self._engine.begin() as connection:
                gone = [name for name in connection.execute(sa.select(_SKETCHES.c.name)).scalars() if name not in keep]
                for first in range(0, len(gone), _AT_ONCE):
                    some = gone[first : first + _AT_ONCE]
                    connection.execute(_SKETCHES.delete().where(_SKETCHES.c.name.in_(some)))
        except sa.exc.OperationalError as error:
            _log.warning("Old sketches are kept: %s.", error.orig)
            return 0
        return len(gone)
