"""The way from a federation file to its resolved settings."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from coordinator.config.checks import check_sense
from coordinator.config.defaults import with_defaults
from coordinator.config.federation import Federation
from coordinator.config.schema import FederationFile, Keys
from coordinator.config.tables import (
    AGGREGATION,
    CLUSTERING,
    FILTER,
    INTERACTION,
    SERVER_OPTIMISER,
    check_flat,
)
from edge_sdk.errors import ConfigurationError
from edge_sdk.paths import expanded
from edge_sdk.wire import NAME

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# An SQLite URL without a host: its driver, its file and its query.
_SQLITE = re.compile(r"(sqlite(?:\+\w+)?):(?://(?:/([^?]*))?)?((?:\?.*)?)")


def load(path: Path | str) -> Federation:
    """Read and check a federation file.

    Raises:
        ConfigurationError: the file is missing or is not TOML, a key or method is unknown, or a value is out of range.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"Cannot read the federation file {path}: {error}. `impasto-coordinator init {path}` writes one."
        ) from error
    return parse(text, folder=path.parent, source=str(path))


def parse(text: str, *, folder: Path, source: str = "federation file") -> Federation:
    """Parse and check the text of a federation file; relative paths are taken from `folder`. Raises as `load`."""
    try:
        table: dict[str, Any] = tomllib.loads(text)
    # A TOMLDecodeError is a ValueError; so are numbers of thousands of digits, brackets in brackets.
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{source} is not TOML: {str(error)[:500]}.") from error
    return resolve(table, folder=folder, source=source)


def resolve(table: Mapping[str, Any], *, folder: Path, source: str = "federation file") -> Federation:
    """Check the content of a federation file; relative paths are taken from `folder`. Raises as `load`."""
    file = _checked(with_defaults(table), source)
    federation = _placed(file, folder, source)
    check_sense(federation, source)
    return federation


def _checked(table: Mapping[str, Any], source: str) -> FederationFile:
    keys = set(FederationFile.__struct_fields__)
    check_flat(table, source)
    for unknown in sorted(table.keys() - keys):
        near = difflib.get_close_matches(unknown, sorted(keys), 1)
        meant = f"did you mean {near[0]!r}?" if near else "see docs/coordinator.md for the keys."
        raise ConfigurationError(f"{source}: there is no key {unknown[:200]!r}: {meant}")
    if isinstance(name := table.get("name"), str) and not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{source}: name = {name[:100]!r} cannot stand in a topic: use 1 to 64 letters a to z, digits, '.', '_' or "
            "'-', the first a letter or digit."
        )
    try:
        file = msgspec.convert(dict(table), FederationFile)
    except msgspec.ValidationError as error:
        why = f"{str(error)[:500]}{_choices(error)}"
        raise ConfigurationError(f"{source}: {why}. See docs/coordinator.md for the keys.") from error
    if bool(file.bundle) == bool(file.slots):
        raise ConfigurationError(f"{source}: give either `bundle` (a folder) or `slots` (a copy of its impasto.json).")
    return file


def _choices(error: msgspec.ValidationError) -> str:
    """Return the texts that the key of an error may have, in words; nothing if it takes others than a few."""
    key = re.search(r"at `\$\.(\w+)`$", str(error))
    kind = get_type_hints(FederationFile).get(key[1]) if key else None
    return f" (one of {', '.join(get_args(kind))})" if get_origin(kind) is Literal else ""


def _placed(file: FederationFile, folder: Path, source: str) -> Federation:
    def beside(path: str | None) -> Path | None:
        return folder / expanded(path) if path else None

    bundle, copy = beside(file.bundle), beside(file.slots)
    description = bundle / "impasto.json" if bundle else copy
    assert description is not None, "one of the two is given"
    home = folder / expanded(file.home or f"{file.name}.coordinator")
    blobs = file.blobs if "://" in (file.blobs or "") else None
    if file.blobs and blobs is None:
        blobs = str(folder / expanded(file.blobs))
    return Federation(
        **{key: getattr(file, key) for key in Keys.__struct_fields__},
        ca=beside(file.ca),
        certificate=beside(file.certificate),
        key=beside(file.key),
        password_file=beside(file.password_file),
        bundle=bundle,
        description=description,
        home=home,
        database=_placed_database(file.database, folder, source)
        if file.database
        else f"sqlite:///{home / 'coordinator.sqlite'}",
        blobs=blobs or str(home / "blobs"),
        aggregation=AGGREGATION.read(file.aggregation, source),
        server_optimiser=SERVER_OPTIMISER.read(file.server_optimiser, source),
        filter=FILTER.read(file.filter, source),
        clustering=CLUSTERING.read(file.clustering, source),
        interaction=INTERACTION.read(file.interaction, source),
    )


def _placed_database(url: str, folder: Path, source: str) -> str:
    """Return the database's URL with an SQLite file resolved against the folder, wherever `serve` is started."""
    found = _SQLITE.fullmatch(url)
    if found is None:
        return url
    driver, file, query = found.groups()
    if not file or file == ":memory:":
        raise ConfigurationError(
            f"{source}: database = {url!r} lies in memory: a restart would lose the federation. Give a file "
            "(sqlite:///coordinator.sqlite), or leave `database` out."
        )
    return f"{driver}:///{file if file.startswith('file:') else folder / expanded(file)}{query}"
