"""The takeover: the first steps of an instance of the coordinator, from checks to its first state."""

from __future__ import annotations

import time
from collections.abc import Callable

from coordinator.config import BaseModel, Federation, adopt, settings_of
from coordinator.identity import Home, Keys
from coordinator.learning import lost_blobs
from coordinator.runner import Runner
from coordinator.server.ending import Ending
from coordinator.store import Database, StoredBlobs
from edge_sdk.errors import ConfigurationError, CoordinatorUntrusted
from edge_sdk.wire import clock_trouble, fingerprint, trusted

Report = Callable[..., None]

# Seconds that an older instance on this home may take to stop, and seconds between two checks.
_GIVE_WAY, _GLANCE = 30.0, 0.05


def check(database: Database, blobs: StoredBlobs, federation: Federation, base: BaseModel) -> None:
    """Refuse a start that could only do damage, before anything is taken over.

    Raises:
        ConfigurationError: the file was changed in a way that cannot be followed, or the database does not belong to
            the blobs.
        HomeInUse: the blobs belong to another federation.
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


def wait_for_home(home: Home, ending: Ending) -> None:
    """Wait until the older instance releases the home, or the end is asked for.

    Raises:
        HomeInUse: it does not release it in time.
    """
    until = time.monotonic() + _GIVE_WAY
    while not home.take() and not ending.wait(_GLANCE):
        if time.monotonic() >= until:
            raise home.in_use()


def take_over(
    database: Database, runner: Runner, blobs: StoredBlobs, federation: Federation, base: BaseModel, keys: Keys,
    epoch: int, report: Report,
) -> None:  # fmt: skip
    """Begin the instance with this epoch: no older one can write any more, and its last state is read only then.

    May be repeated after StoreUnavailable.

    Raises:
        Superseded: another instance has begun meanwhile.
        StoreUnavailable: database or blob store do not answer.
        ConfigurationError: as `check`.
    """
    known, last = database.known_key(), database.latest_epoch()
    database.begin(epoch)
    blobs.sweep()
    runner.reload()
    before = database.settings()
    adopted = adopt(runner.state, before, federation, base)
    if adopted.state is not runner.state:
        runner.replace(adopted.state)
    lost = lost_blobs(runner.state, blobs)
    database.put_settings(settings_of(federation, base), keys.signer.public)
    _tell_of_key(known, keys, federation.name, report)
    if adopted.changed or adopted.notes:
        report("settings_changed", changed=adopted.changed, notes=adopted.notes)
    if last < epoch and (reason := clock_trouble(last, time.time())):
        report("clock_suspect", reason=reason)
    if lost:
        runner.feed(lost)


def _tell_of_key(known: bytes | None, keys: Keys, federation: str, report: Report) -> None:
    """Report a key that devices will not accept."""
    try:
        trusted(known, keys.signer.public, keys.successions, federation)
    except CoordinatorUntrusted:
        assert known is not None, "nothing is trusted that was not known"
        report("key_changed", before=fingerprint(known), now=fingerprint(keys.signer.public))
