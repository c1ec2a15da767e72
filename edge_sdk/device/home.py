"""The files of a home that a device itself uses: adapters and their weights, a lock, kept codes, its own name.

    root, cluster, leaf .safetensors; clusters/<n>.safetensors    adapters
    weights.json        how much of root, cluster and leaf to draw with, and of which files
    leaf.lock           held by the one call that learns the leaf
    code-<level>.json, picture-code-<level>.json    codes as they were sent, see `kept_code`

The files of a membership in the same folder: see `edge_sdk.membership`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from edge_sdk import adapter as adapters_
from edge_sdk import durable
from edge_sdk.adapter import Adapter
from edge_sdk.codes import Code, kept_code
from edge_sdk.errors import AdapterError, ConfigurationError
from edge_sdk.inference.bundle import sha256_of
from edge_sdk.lockfile import LockFile
from edge_sdk.membership import Identity, identity, keep_id, kept_id, no_home
from edge_sdk.wire import assist

_ROLES = ("root", "cluster", "leaf")
T = TypeVar("T")


class _Kept(Generic[T]):
    """Things made of files, each made again when its file is another one: adapters are replaced, never changed."""

    def __init__(self, make: Callable[[Path], T]) -> None:
        self._make = make
        self._made: dict[Path, tuple[tuple[int, ...], T]] = {}

    def __call__(self, path: Path) -> T:
        try:
            found = path.stat()
        except OSError:
            return self._make(path)  # has the error to raise
        file = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
        if path not in self._made or self._made[path][0] != file:
            self._made.pop(path, None)  # before the new one is made, which may be large
            self._made[path] = file, self._make(path)
        return self._made[path][1]


class Home:
    """A device's home; its folder is made when something is written.

    Methods that write raise ConfigurationError if the folder cannot be written.

    Args:
        folder: the home folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: _Kept[Adapter] = _Kept(adapters_.load)
        self._hashed: _Kept[str] = _Kept(sha256_of)

    @property
    def adapters(self) -> dict[str, Path]:
        """Name -> file of the adapters here: see `Device.adapters`."""
        own = {name: self.folder / f"{name}.safetensors" for name in _ROLES}
        clusters = self.folder / "clusters"
        others = sorted(clusters.glob("*.safetensors")) if clusters.is_dir() else []
        named = own | {f"cluster-{path.stem}": path for path in others}
        return {name: path for name, path in named.items() if path.is_file()}

    @property
    def roles(self) -> list[str]:
        """Those of root, cluster and leaf that are here, in this order."""
        found = self.adapters
        return [name for name in _ROLES if name in found]

    def adapter(self, name: str) -> Adapter:
        """Read an adapter; one whose file has not changed is not read again.

        Raises:
            AdapterError: there is none of that name; AdapterFormatError, AdapterValueError: its file is damaged.
        """
        files = self.adapters
        if name not in files:
            known = ", ".join(files) or "none yet: learn, or join a federation"
            raise AdapterError(f"There is no adapter {name!r} in {self.folder} ({known}).")
        return self._read(files[name])

    def identity(self) -> Identity:
        """The device with this home, as its federation knows it.

        Raises:
            ConfigurationError: it has not joined one.
        """
        found = identity(self.folder)
        if found is None:
            raise ConfigurationError(
                f"The device of {self.folder} has not joined a federation, and helpers draw for its devices only: join "
                "first (`impasto join`), with the same home."
            )
        return found

    def published(self, weights: Mapping[str, float]) -> list[assist.AdapterUse]:
        """Those adapters that the federation has published, by the hashes of their files: never the leaf.

        weights: name -> weight of adapters at home.
        """
        files = {name: file for name, file in self.adapters.items() if name != "leaf"}
        return [
            assist.AdapterUse(sha256=self._hashed(files[name]), weight=weight)
            for name, weight in weights.items()
            if name in files and weight != 0
        ]

    def save_leaf(self, leaf: Adapter, checkpoint: Path) -> None:
        """Write the leaf, then delete the checkpoint of its training."""
        try:
            adapters_.save(leaf, self.folder / "leaf.safetensors", private=True)
            checkpoint.unlink(missing_ok=True)
        except OSError as error:
            raise no_home(self.folder, error) from error

    @property
    def weights(self) -> dict[str, float]:
        """The weights that were kept for root, cluster and leaf as they are now; else 1 for each that is here."""
        present = self.roles
        try:
            kept = json.loads(self._weights.read_bytes())
            if kept["adapters"] == self._digests(present):
                return {name: float(kept["weights"][name]) for name in present}
        except (OSError, ValueError, KeyError, TypeError):
            pass  # there are none, or they cannot be read: they are chosen anew by the next call
        return dict.fromkeys(present, 1.0)

    def keep_weights(self, weights: Mapping[str, float]) -> None:
        """Write the weights of root, cluster and leaf, as far as they are here."""
        try:
            content = json.dumps({"weights": weights, "adapters": self._digests(self.roles)}).encode()
            durable.write(self._weights, content, private=True)
        except OSError as error:
            raise no_home(self.folder, error) from error

    @property
    def _weights(self) -> Path:
        return self.folder / "weights.json"

    def _digests(self, names: Sequence[str]) -> dict[str, str]:
        """Adapter -> SHA-256 of its file."""
        files = self.adapters
        return {name: self._hashed(files[name]) for name in names}

    def check(self) -> None:
        """Check that the home can be written, before pictures are encoded for minutes. New folders are removed."""
        missing = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        try:
            durable.check(self.folder / "leaf.safetensors")
            for folder in missing:
                folder.rmdir()
        except OSError as error:
            raise no_home(self.folder, error) from error

    def leaf_lock(self) -> LockFile:
        """The lock under which one call at a time learns the leaf.

        Raises:
            DeviceBusy: another call has it.
        """
        busy = f"A leaf is being learnt in {self.folder} already: wait for that, or use another home."
        try:
            durable.private_folder(self.folder)
            return LockFile(self.folder / "leaf.lock", busy)
        except OSError as error:
            raise no_home(self.folder, error) from error

    @property
    def of_federation(self) -> list[Path]:
        """The files that `kept_codes` and `keep_weights` have written: they are of the federation."""
        patterns = ("code-*.json", "picture-code-*.json", "weights.json")
        half_written = (f".{pattern}.*.tmp" for pattern in patterns)
        return sorted({path for pattern in (*patterns, *half_written) for path in self.folder.glob(pattern)})

    def kept_codes(self, name: str, made: Sequence[Code], parts: Iterable[str]) -> list[Code]:
        """The codes to send: see `kept_code`.

        Args:
            name: of the files in which they are kept.
            made: the codes as they are now, one for each level.
            parts: names of what they are made of.
        """
        parts = list(parts)
        try:
            durable.private_folder(self.folder)
            return [kept_code(self.folder / f"{name}-{coded.level}.json", coded, parts) for coded in made]
        except OSError as error:
            raise no_home(self.folder, error) from error

    def own_id(self) -> str:
        """The name that this device gave itself, the same one at every start."""
        name = kept_id(self.folder)
        if name is None:
            name = f"device-{secrets.token_hex(6)}"
            keep_id(self.folder, name)
        return name
