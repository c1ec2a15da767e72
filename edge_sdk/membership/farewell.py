"""Forgetting: a device asks its coordinator to keep nothing of it; then the home's files of the federation are deleted.

    asked ──Forgotten──> confirmed ──files deleted, the journal last──> nothing is left

The journal notes the first two, so that a call that was killed at any point is finished by the next one. Between them
no membership of this home can be opened: its key signs nothing after a Forget.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from edge_sdk import durable
from edge_sdk.errors import (
    ConfigurationError,
    DeadlineExceeded,
    ImpastoError,
    JournalError,
    Rejected,
    TransportError,
    UnknownFederation,
    WireError,
)
from edge_sdk.lockfile import LockFile
from edge_sdk.membership.home import JOURNAL, federation_files
from edge_sdk.membership.journal import Journal, Owner, in_use, no_home, read_owner
from edge_sdk.membership.trust import Acquaintance
from edge_sdk.paths import expanded
from edge_sdk.transport import Settings, create, fresh_id
from edge_sdk.wire import CoordinatorState, Forgotten, Greeter, Refused, Topics, confirms, decode, encode

_REPEAT = 5.0  # seconds after which the coordinator is asked again
_GLANCE = 0.5
_FLUSH = 10.0  # seconds that the broker may take to clear what it retains of the device
_INBOX = 256
_BESIDE = (
    "Nothing was deleted here. Run the same again when it answers; or delete the files here alone with --local-only "
    "(local_only=True): what the coordinator has of this device then stays, and its operator can delete it."
)


@dataclass(frozen=True)
class Farewell:
    """The end of a device's part in a federation.

    Attributes:
        device: its name there; None if it has met no coordinator from this home.
        confirmed: True if the coordinator has confirmed that it keeps nothing of the device.
        deleted: the files that were deleted here.
    """

    device: str | None
    confirmed: bool
    deleted: tuple[Path, ...]


def forget(
    broker: str | Settings | None,
    federation: str,
    home: Path | str,
    others: Iterable[Path] = (),
    *,
    answer: float = 30.0,
) -> Farewell:
    """Let a federation forget the device with this home, then delete what the home has of the federation.

    Args:
        broker: its URL, or the transport's settings; None tells nobody, and deletes the files here alone.
        federation: its name.
        home: the device's home.
        others: further files in the home that are of the federation; those that are not there are passed over.
        answer: longest wait for the coordinator's confirmation, in seconds.

    Raises:
        ConfigurationError: the home is of another federation, holds nothing of one, or cannot be written.
        BrokerUnreachable, AccessDenied, DeadlineExceeded, UnknownFederation: the coordinator could not be asked, or did
            not answer; nothing was deleted here.
        CoordinatorUntrusted, SignatureInvalid, MessageOutdated: another coordinator has answered.
        Rejected: the coordinator refused; the message has its reason.
        DeviceBusy: a membership of this home is open.
        JournalDamaged, JournalTooNew, JournalError: the journal cannot be used, see `Journal`.
    """
    folder = expanded(home)
    path = folder / JOURNAL
    contents = [*federation_files(folder), *(file for file in others if file.is_file())]
    if not contents and not path.with_suffix(".lock").exists() and not path.exists():
        raise ConfigurationError(
            f"{folder} holds nothing of a federation: give the home of the device to be forgotten."
        )
    owner, confirmed = None, False
    if broker is None:
        owner = _stated_owner(path, federation)
    elif path.is_file():
        with closing(Journal(path)) as journal:
            owner = _of_federation(journal.owner, federation, folder)
            if owner is not None:
                confirmed = True
                _confirm(broker if isinstance(broker, Settings) else Settings(url=broker), owner, journal, answer)
    return Farewell(owner.device if owner else None, confirmed, _delete(path, contents))


def _stated_owner(path: Path, federation: str) -> Owner | None:
    """The owner of a journal that may be damaged; raises ConfigurationError if it is another federation's."""
    try:
        owner = read_owner(path)
    except JournalError:
        return None
    return _of_federation(owner, federation, path.parent)


def _of_federation(owner: Owner | None, federation: str, home: Path) -> Owner | None:
    """The owner as it is; raises ConfigurationError if it is another federation's."""
    if owner is not None and owner.federation != federation:
        raise ConfigurationError(
            f"{home} is the home of {owner.device!r} in federation {owner.federation!r}, not in {federation!r}: "
            "nothing was deleted. Name that federation, or give the right home."
        )
    return owner


def _confirm(settings: Settings, owner: Owner, journal: Journal, answer: float) -> None:
    """Have the coordinator's confirmation, unless an earlier call had it."""
    if journal.farewell:
        return
    journal.begin_farewell()
    try:
        _ask(settings, owner, journal, answer)
    except TransportError as error:
        raise type(error)(f"{error} {_BESIDE}") from error
    journal.confirm_farewell()


def _ask(settings: Settings, owner: Owner, journal: Journal, answer: float) -> None:
    """Ask until the coordinator confirms; then nothing of the device stays retained on the broker."""
    until = time.monotonic() + answer
    topics, device, heard = Topics(owner.federation), owner.device, queue.Queue[bytes](_INBOX)

    def arrived(_: str, payload: bytes) -> None:
        with suppress(queue.Full):  # what matters is said again
            heard.put_nowait(payload)

    transport = create(replace(settings, client_id=settings.client_id or fresh_id(device)))
    try:
        transport.connect(answer)
        transport.subscribe(topics.all_down(device), arrived)
        transport.subscribe(topics.coordinator_state, arrived)
        asking = _Asking(owner, journal)
        again = 0.0
        while not asking.confirmed:
            now = time.monotonic()
            if now >= until:
                raise asking.silence(answer)
            if asking.coordinator.online and now >= again:
                transport.publish(topics.control(device, "up"), encode(asking.forget))
                again = now + _REPEAT
            with suppress(queue.Empty):
                asking.take(heard.get(timeout=min(_GLANCE, until - now)))
        transport.publish(topics.presence(device), b"", retain=True)
        transport.flush(_FLUSH)
    finally:
        transport.close()


class _Asking:
    """The question to the coordinator of a device's federation, and its answers."""

    def __init__(self, owner: Owner, journal: Journal) -> None:
        self._owner = owner
        self._journal = journal
        self._greeter = Greeter(journal.own_key(), owner.federation, owner.device)
        self.coordinator = Acquaintance(owner.federation, owner.device, journal, lambda event, **values: None)
        self.forget = self._greeter.forget()
        self.confirmed = False

    def take(self, payload: bytes) -> None:
        """Take in a message.

        Raises:
            Rejected: the coordinator refuses.
        """
        try:
            message = decode(payload)
        except WireError:  # somebody else's
            return
        match message:
            case CoordinatorState():
                self.coordinator.accepted(message)
            case Forgotten():
                public, owner = self._journal.trusted_key, self._owner
                self.confirmed |= public is not None and confirms(
                    message, public, owner.federation, owner.device, self._greeter.public
                )
            case Refused(about="forget"):
                raise Rejected(
                    f"The coordinator does not forget this device: {message.reason} Nothing was deleted here."
                )

    def silence(self, seconds: float) -> ImpastoError:
        """The error for a coordinator that has not confirmed in time."""
        federation = self._owner.federation
        if self.coordinator.untrusted is not None:
            return self.coordinator.untrusted
        if self.coordinator.state is None:
            return UnknownFederation(f"Nobody coordinates {federation!r} on this broker. {_BESIDE}")
        what = "has not answered" if self.coordinator.online else "is offline"
        return DeadlineExceeded(f"The coordinator of {federation!r} {what}, within {seconds:g} s.")


def _delete(path: Path, contents: Iterable[Path]) -> tuple[Path, ...]:
    """Delete these files and the journal, the journal last, so that a call that is killed knows how far it came."""
    folder, lock = path.parent, path.with_suffix(".lock")
    journal = (path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm", ""))
    files = (*contents, *(file for file in journal if file.is_file()))
    try:
        with LockFile(lock, in_use(path)):
            for file in files:
                durable.remove(file)
            with suppress(PermissionError):  # Windows keeps an open file; it is empty
                lock.unlink()
    except OSError as error:
        raise no_home(folder, error) from error
    for empty in (folder / "clusters", folder):
        with suppress(OSError):  # other files are in it
            empty.rmdir()
    return files
