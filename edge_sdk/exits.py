"""Exit codes of all commands: `impasto`, `impasto-export`, `impasto-coordinator`. docs/exit-codes.md has the table."""

from __future__ import annotations

import errno
import sys
import traceback
from enum import IntEnum
from typing import NoReturn

from edge_sdk.errors import (
    AccessDenied,
    BlobLost,
    BrokerSettingsInvalid,
    CoordinatorUntrusted,
    DeviceBusy,
    DeviceError,
    HomeInUse,
    ImpastoError,
    JournalDamaged,
    JournalError,
    JournalTooNew,
    LineBroken,
    MemoryLimitTooSmall,
    NoRoomToPrepare,
    NothingLearnt,
    PayloadTooLarge,
    PrivacyRefused,
    Rejected,
    StoreUnavailable,
    Superseded,
    TransportError,
    UnknownFederation,
    WireError,
)


class Exit(IntEnum):
    """Exit codes. Ctrl+C is 130 and SIGTERM 143, as in a shell."""

    DONE = 0
    """The command has done its work."""
    UNUSABLE = 1
    """A file, a folder, a setting or a value that was given cannot be used; `doctor` has found something broken."""
    USAGE = 2
    """The command line makes no sense."""
    UNREACHABLE = 3
    """The broker or a coordinator does not answer: the same command may succeed later."""
    REFUSED = 4
    """The other side refuses: access rules, an admission, a key, a broken protocol."""
    IN_USE = 5
    """Another process has what is needed, or has taken over."""
    STORAGE = 6
    """A disk, a database or a blob store cannot be written or read: the same command may succeed later."""
    DEVICE = 7
    """The device lacks what was asked for: memory, a back end."""
    NOTHING = 8
    """The work was done, and nothing came of it."""
    FAULT = 70
    """An unexpected error, which is a fault of Impasto: its traceback is on stderr."""


# Of an error that is not listed, the nearest listed ancestor decides.
_CODES: dict[type[BaseException], Exit] = {
    ImpastoError: Exit.UNUSABLE,
    DeviceError: Exit.DEVICE,
    NoRoomToPrepare: Exit.STORAGE,
    MemoryLimitTooSmall: Exit.UNUSABLE,
    DeviceBusy: Exit.IN_USE,
    WireError: Exit.REFUSED,
    BlobLost: Exit.STORAGE,
    TransportError: Exit.UNREACHABLE,
    BrokerSettingsInvalid: Exit.UNUSABLE,
    AccessDenied: Exit.REFUSED,
    PayloadTooLarge: Exit.REFUSED,
    LineBroken: Exit.FAULT,
    UnknownFederation: Exit.UNREACHABLE,
    Superseded: Exit.IN_USE,
    HomeInUse: Exit.IN_USE,
    StoreUnavailable: Exit.STORAGE,
    Rejected: Exit.REFUSED,
    PrivacyRefused: Exit.REFUSED,
    CoordinatorUntrusted: Exit.REFUSED,
    NothingLearnt: Exit.NOTHING,
    JournalError: Exit.STORAGE,
    JournalDamaged: Exit.UNUSABLE,
    JournalTooNew: Exit.UNUSABLE,
    MemoryError: Exit.DEVICE,
}
_STORAGE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})


def exit_code(error: BaseException) -> Exit:
    """Return the exit code of a command that ends with this error."""
    if isinstance(error, OSError):
        return Exit.STORAGE if error.errno in _STORAGE else Exit.UNUSABLE
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), Exit.FAULT)


def exit_by_fault(error: Exception) -> NoReturn:
    """End the process after an unexpected error: with its traceback, without the values of local variables."""
    traceback.print_exception(error)
    sys.exit(exit_code(error))
