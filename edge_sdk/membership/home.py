"""A device's home folder.

    root.safetensors, cluster.safetensors, clusters/<n>.safetensors       the adapters to draw with
    journal.sqlite                  the state that a restart needs, see `journal`
    journal.lock                    held by the one membership that has the journal open
    device_id                       the name that the device gave itself
    training-<plan>.checkpoint      the unfinished training of a round, if there is one

Every file appears whole or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from edge_sdk import durable
from edge_sdk.errors import ConfigurationError
from edge_sdk.membership.journal import Journal, no_home, read_own_key, read_owner, read_spent, read_trusted_key
from edge_sdk.paths import expanded
from edge_sdk.privacy import Spent
from edge_sdk.wire import NAME, Manifest

_CLUSTER = re.compile(r"cluster-(\d{1,9})")


JOURNAL = "journal.sqlite"
DEVICE_ID = "device_id"


def trusted_key(folder: Path | str) -> bytes | None:
    """The coordinator's key that the device with this home trusts; None if there is none. See `read_trusted_key`."""
    return read_trusted_key(expanded(folder) / JOURNAL)


def home_federation(folder: Path | str) -> str | None:
    """Name of the federation whose device has this home; None if none has. Raises as `trusted_key`."""
    owner = read_owner(expanded(folder) / JOURNAL)
    return owner.federation if owner else None


def spent_budget(folder: Path | str) -> Spent:
    """The privacy budget that the device with this home has spent in its federation. Raises as `trusted_key`."""
    return read_spent(expanded(folder) / JOURNAL)


@dataclass(frozen=True)
class Identity:
    """A device as its federation knows it.

    Attributes:
        federation, device: the names.
        key: the private key that signs for the device, 32 bytes.
        trusted: the coordinator's public key that the device trusts.
    """

    federation: str
    device: str
    key: bytes = field(repr=False)
    trusted: bytes


def identity(folder: Path | str) -> Identity | None:
    """The device with this home; None if it has not joined. Raises as `trusted_key`, and may be called at any time."""
    path = expanded(folder) / JOURNAL
    owner, key, trusted = read_owner(path), read_own_key(path), read_trusted_key(path)
    if owner is None or key is None or trusted is None:
        return None
    return Identity(owner.federation, owner.device, key, trusted)


def kept_id(folder: Path | str) -> str | None:
    """The device's own name in the home; None if it has none yet.

    If the name's file was lost or truncated, this is the name in the journal, which the coordinator knows.

    Raises:
        ConfigurationError: the file cannot be read, or holds something that is no name.
        JournalDamaged, JournalTooNew, JournalError: as `Journal`.
    """
    folder = expanded(folder)
    file = folder / DEVICE_ID
    try:
        name = file.read_text(encoding="utf-8").strip() if file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise _no_name(file, str(error)) from error
    if not name:
        owner = read_owner(folder / JOURNAL)
        return owner.device if owner else None
    if not NAME.fullmatch(name):
        raise _no_name(file, f"{name[:100]!r} is no name")
    return name


def keep_id(folder: Path | str, name: str) -> None:
    """Store the name of the device with this home, durably.

    Raises:
        ConfigurationError: the folder cannot be made or written.
    """
    folder = expanded(folder)
    try:
        durable.private_folder(folder)
        durable.write(folder / DEVICE_ID, f"{name}\n".encode())
    except OSError as error:
        raise no_home(folder, error) from error


def federation_files(folder: Path) -> list[Path]:
    """The files in a home that are of its federation, but for the journal: adapters, checkpoints, the device's name.

    Files that a kill has left half-written are among them.
    """
    names = ("root.safetensors", "cluster.safetensors", DEVICE_ID)
    half_written = (".training-*.tmp", *(f".{name}.*.tmp" for name in names))
    patterns = (*names, "clusters/*", "clusters/.*.tmp", "training-*.checkpoint", *half_written)
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _no_name(file: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{file} should hold this device's name ({why}). Write the name into it under which it has joined "
        "(`impasto-coordinator status` lists them), or delete it."
    )


class Home:
    """A device's home folder.

    Raises (on opening):
        ConfigurationError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = expanded(folder)
        try:
            durable.private_folder(self.folder)
            (self.folder / "clusters").mkdir(exist_ok=True)
        except OSError as error:
            raise no_home(self.folder, error) from error

    def journal(self) -> Journal:
        """Open the journal; raises as `Journal`."""
        return Journal(self.folder / JOURNAL)

    def checkpoint(self, plan: str) -> Path:
        """File of the checkpoint for a plan's training."""
        return self.folder / f"training-{plan[:16]}.checkpoint"

    def forget_checkpoints(self, keep: Path | None = None) -> None:
        """Delete the checkpoints of all trainings but `keep`, and temporary files that a kill has left."""
        half_written = self.folder.glob(".training-*.tmp")
        for path in {*self.folder.glob("training-*.checkpoint"), *half_written} - {keep}:
            with suppress(OSError):  # a file that stays only costs disk
                path.unlink()

    def settle(
        self, adapters: Iterable[tuple[Manifest, bytes]], cluster: int | None, *, all_there_are: bool
    ) -> dict[str, Path]:
        """Write adapters to the files that drawing uses; return "root", "cluster" and "cluster-<n>" -> file.

        With `all_there_are`, other adapters in the home are deleted; without it, they stay unless they are replaced.

        Raises:
            ConfigurationError: a file cannot be written; those written before are kept.
        """
        try:
            durable.private_folder(self.folder)
            (self.folder / "clusters").mkdir(exist_ok=True)
            return self._settle(adapters, cluster, all_there_are)
        except OSError as error:
            raise no_home(self.folder, error) from error

    def _settle(
        self, adapters: Iterable[tuple[Manifest, bytes]], cluster: int | None, all_there_are: bool
    ) -> dict[str, Path]:
        paths: dict[str, Path] = {}
        for manifest, data in adapters:
            number = _CLUSTER.fullmatch(manifest.name)
            if manifest.role == "root":
                paths["root"] = self.folder / "root.safetensors"
                durable.write(paths["root"], data, private=True)
            elif manifest.role == "cluster" and number:  # any other name could point outside the folder
                paths[manifest.name] = self.folder / "clusters" / f"{int(number[1])}.safetensors"
                durable.write(paths[manifest.name], data, private=True)
                if int(number[1]) == cluster:
                    paths["cluster"] = self.folder / "cluster.safetensors"
                    durable.write(paths["cluster"], data, private=True)
        if all_there_are:
            own = [self.folder / "root.safetensors", self.folder / "cluster.safetensors"]
            for path in {*own, *(self.folder / "clusters").iterdir()} - set(paths.values()):
                path.unlink(missing_ok=True)
        return paths
