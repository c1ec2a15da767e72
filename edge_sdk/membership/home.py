"""What a device keeps on disk between sessions, in its home folder.

    membership.json                 session epoch; the coordinator's key; which plan `update.safetensors` answers
    update.safetensors              the last trained update, until the next one: a restarted device offers it again
    own.safetensors                 the adapter behind it, where a factor of it stays at home
    root.safetensors, cluster.safetensors, clusters/<n>.safetensors       the adapters to draw with
    received/<sha256>.safetensors   adapters of the round under way

Every file appears whole or not at all, and is synced before anybody is told that it is safe.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from edge_sdk import durable
from edge_sdk.errors import ConfigurationError
from edge_sdk.wire.messages import Manifest, Offer

_CLUSTER = re.compile(r"cluster-(\d{1,9})")


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    epoch: int = 0
    key: bytes | None = None
    plan: str | None = None
    offer: Offer | None = None


class Home:
    """A device's home folder.

    Raises (on opening):
        ConfigurationError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).expanduser()
        try:
            (self.folder / "received").mkdir(parents=True, exist_ok=True)
            (self.folder / "clusters").mkdir(exist_ok=True)
            self._record = self._read_record()
        except OSError as error:
            raise ConfigurationError(f"Cannot use {self.folder} as a device's home: {error}.") from error

    def next_epoch(self) -> int:
        """A number that grows with every session; by the clock, so that it grows also where the folder was lost."""
        epoch = min(max(self._record.epoch + 1, int(time.time())), 2**31 - 1)
        self._write_record(msgspec.structs.replace(self._record, epoch=epoch))
        return self._record.epoch

    @property
    def trusted_key(self) -> bytes | None:
        """The coordinator's public key that this device trusts, None before it has met one."""
        return self._record.key

    def trust(self, key: bytes) -> None:
        """Trust this key from now on, and no other."""
        if key != self._record.key:
            self._write_record(msgspec.structs.replace(self._record, key=key))

    # the last trained update ----------------------------------------------------------------------------------------

    def keep_update(self, plan: str, offer: Offer, data: bytes) -> None:
        """Remember an update and which plan it answers."""
        durable.write(self.folder / "update.safetensors", data)
        self._write_record(msgspec.structs.replace(self._record, plan=plan, offer=offer))

    def kept_update(self, plan: str) -> tuple[Offer, bytes] | None:
        """The update that answers this plan, if it was trained before."""
        offer = self._record.offer
        if offer is None or self._record.plan != plan:
            return None
        data = _read(self.folder / "update.safetensors", offer.manifest.sha256)
        return (offer, data) if data is not None else None

    def keep_own(self, data: bytes | None) -> None:
        """Remember the whole adapter of which the update is a part; None: there is no such."""
        if data is None:
            (self.folder / "own.safetensors").unlink(missing_ok=True)
        else:
            durable.write(self.folder / "own.safetensors", data)

    def own(self) -> bytes | None:
        """The adapter of `keep_own`, None if there is none."""
        path = self.folder / "own.safetensors"
        return path.read_bytes() if path.is_file() else None

    # adapters -------------------------------------------------------------------------------------------------------

    def receive(self, sha256: str, data: bytes) -> None:
        durable.write(self._received(sha256), data)

    def received(self, sha256: str) -> bytes | None:
        """An adapter that came in this round or an earlier one, None if it is not there or damaged."""
        return _read(self._received(sha256), sha256)

    def forget_received(self, keep: Iterable[str]) -> None:
        """Delete all received adapters but these."""
        wanted = {self._received(sha256) for sha256 in keep}
        for path in (self.folder / "received").iterdir():
            if path not in wanted:
                path.unlink(missing_ok=True)

    def settle(
        self, adapters: Iterable[tuple[Manifest, bytes]], cluster: int | None, *, all_there_are: bool
    ) -> dict[str, Path]:
        """Put adapters where they are drawn with; returns "root", "cluster" and "cluster-<n>" -> file.

        With `all_there_are`, what else lies there goes away; without, only what is replaced does.
        """
        paths: dict[str, Path] = {}
        for manifest, data in adapters:
            number = _CLUSTER.fullmatch(manifest.name)
            if manifest.role == "root":
                paths["root"] = self.folder / "root.safetensors"
                durable.write(paths["root"], data)
            elif manifest.role == "cluster" and number:  # other names could lead out of the folder
                paths[manifest.name] = self.folder / "clusters" / f"{int(number[1])}.safetensors"
                durable.write(paths[manifest.name], data)
                if int(number[1]) == cluster:
                    paths["cluster"] = self.folder / "cluster.safetensors"
                    durable.write(paths["cluster"], data)
        if all_there_are:
            own = [self.folder / "root.safetensors", self.folder / "cluster.safetensors"]
            for path in {*own, *(self.folder / "clusters").iterdir()} - set(paths.values()):
                path.unlink(missing_ok=True)
        return paths

    # files ----------------------------------------------------------------------------------------------------------

    def _received(self, sha256: str) -> Path:
        return self.folder / "received" / f"{sha256}.safetensors"

    def _read_record(self) -> _Record:
        try:
            return msgspec.json.decode((self.folder / "membership.json").read_bytes(), type=_Record)
        except FileNotFoundError:
            return _Record()
        except msgspec.DecodeError:
            return _Record()  # it is written whole, so somebody edited it: an update is trained anew, nothing else

    def _write_record(self, record: _Record) -> None:
        durable.write(self.folder / "membership.json", msgspec.json.format(msgspec.json.encode(record)))
        self._record = record


def _read(path: Path, sha256: str) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == sha256 else None
