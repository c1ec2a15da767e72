"""The first steps of a life of the coordinator: it takes the federation over, and looks at what there is."""

from __future__ import annotations

import time
from collections.abc import Callable

from coordinator import rounds
from coordinator.config import BaseModel, Federation, adopt, settings_of
from coordinator.identity import Keys
from coordinator.runner import Runner
from coordinator.store import Database, StoredBlobs
from edge_sdk.errors import ConfigurationError, CoordinatorUntrusted
from edge_sdk.wire import clock_trouble, fingerprint, trusted

Report = Callable[..., None]


def check(database: Database, blobs: StoredBlobs, federation: Federation, base: BaseModel) -> None:
    """Refuse what this life could only spoil, before it takes anything over.

    Raises:
        ConfigurationError: the file was changed in a way that cannot be followed, or the database is not the one that
            the blobs belong to.
        HomeInUse: the blobs are another federation's.
        StoreUnavailable: the blob store does not answer.
    """
    blobs.claim(federation.name)
    state = database.load()
    adopt(state, database.settings(), federation, base)
    if not state.devices and not state.round and (names := blobs.names()):
        raise ConfigurationError(
            f"There are {len(names)} adapters in {federation.blobs}, and the database knows no device and no round: it "
            "was lost, or `database` was changed. Bring it back from a backup; or, to begin anew, move the blobs away."
        )


def take_over(
    database: Database, runner: Runner, blobs: StoredBlobs, federation: Federation, base: BaseModel, keys: Keys,
    epoch: int, report: Report,
) -> None:  # fmt: skip
    """Begin the life with that epoch: no earlier one writes any more, and what it wrote last is read only now.

    Raises:
        Superseded: another life has begun meanwhile.
        ConfigurationError: as `check`.
    """
    last = database.latest_epoch()
    database.begin(epoch)
    blobs.sweep()
    runner.reload()
    before = database.settings()
    adopted = adopt(runner.state, before, federation, base)
    if adopted.state is not runner.state:
        runner.replace(adopted.state)
    database.put_settings(settings_of(federation, base), keys.signer.public)
    if adopted.changed or adopted.notes:
        report("settings_changed", changed=adopted.changed, notes=adopted.notes)
    if reason := clock_trouble(last, time.time()):
        report("clock_suspect", reason=reason)
    _look_for_blobs(runner, blobs)


def tell_of_key(database: Database, keys: Keys, federation: str, report: Report) -> None:
    """Say it if devices will not know this coordinator again. Before `take_over`, which notes the key."""
    known = database.known_key()
    try:
        trusted(known, keys.signer.public, keys.successions, federation)
    except CoordinatorUntrusted:
        assert known is not None, "nothing is trusted that was not known"
        report("key_changed", before=fingerprint(known), now=fingerprint(keys.signer.public))


def lost_blobs(state: rounds.State, blobs: StoredBlobs) -> rounds.Lost | None:
    """What the state needs and the store has not got any more; StoreUnavailable if that cannot be seen."""
    needed = state.blobs()
    missing = needed - blobs.names() if needed else set()
    return rounds.Lost(frozenset(missing)) if missing else None


def _look_for_blobs(runner: Runner, blobs: StoredBlobs) -> None:
    if lost := lost_blobs(runner.state, blobs):
        runner.feed(lost)
