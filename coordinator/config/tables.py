"""Tables of methods in the federation file: [aggregation], [server_optimiser], [filter], [clustering], [interaction].

A table names a method, and has the keys of that method alone, as the method's own settings declare them.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec

from coordinator.config.schema import FederationFile
from coordinator.methods import MethodSettings, Registry
from coordinator.methods.aggregation import AGGREGATORS, Aggregator, AggregatorSettings
from coordinator.methods.clustering import CLUSTERERS, IFCA, Clusterer
from coordinator.methods.interaction import INTERACTIONS, Interaction
from coordinator.methods.optimisers import OPTIMISERS, ServerOptimiser
from coordinator.methods.robust import FILTERS, Filter
from edge_sdk.errors import ConfigurationError

M = TypeVar("M")
S = TypeVar("S", bound=MethodSettings)

_DOCS = "See docs/coordinator.md for the keys."


@dataclass(frozen=True)
class Family(Generic[M, S]):
    """A family of methods, and its table.

    Attributes:
        table: name of the table.
        default: name of the method that a file without the table has.
        registry: the methods.
        settings_of: returns the class of a method's settings.
        offline: further settings by name, of methods that only `impasto-coordinator simulate` performs.
    """

    table: str
    default: str
    registry: Registry[M]
    settings_of: Callable[[M], type[S]]
    offline: Mapping[str, type[S]] = field(default_factory=lambda: MappingProxyType({}))

    def settings(self, method: str) -> type[S]:
        """Return the class of a method's settings.

        Raises:
            KeyError: there is no such method.
            ConfigurationError: the method of another package cannot be used.
        """
        return self.offline[method] if method in self.offline else self.settings_of(self.registry[method])

    def keys_of(self, method: str) -> str:
        """Return a method's keys with their defaults, as TOML; of one that cannot be used the reason.

        Raises:
            KeyError: there is no such method.
        """
        try:
            keys = [key for key in msgspec.structs.fields(self.settings(method)) if key.name != "method"]
        except ConfigurationError as error:
            return str(error)
        return ", ".join(key.name if key.required else f"{key.name} = {_toml(key.default)}" for key in keys)

    def owners(self, key: str) -> list[str]:
        """Return the names of the methods that have this key; methods that cannot be loaded are left out."""
        return [name for name, kind in self._usable() if key in kind.__struct_fields__ and key != "method"]

    def read(self, table: Mapping[str, Any], source: str) -> S:
        """Check a table of the federation file.

        Args:
            table: the table.
            source: name of the file, for errors.

        Raises:
            ConfigurationError: the method is unknown, a key is not one of the method's, or a value is out of range.
        """
        where = f"{source}: [{self.table}]"
        method = table.get("method", self.default)
        if not isinstance(method, str):
            raise ConfigurationError(f'{where} method must be a name in quotes, such as "{self.default}".')
        if method not in self.registry and method not in self.offline:
            raise ConfigurationError(
                f"{where} method = {method[:100]!r} is unknown; use one of {', '.join(self.registry)}."
            )
        kind = self.settings(method)
        for key in sorted(table.keys() - set(kind.__struct_fields__)):
            raise ConfigurationError(f"{where} {self._why_not(key, method, kind)}")
        try:
            return msgspec.convert({**table, "method": method}, kind)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"{where}: {str(error)[:500]}. {_DOCS}") from error

    def _why_not(self, key: str, method: str, kind: type[S]) -> str:
        lacks = f"method = {method!r} has no key {key[:100]!r}"
        if owners := self.owners(key):
            why = f" {kind.without[key]}" if key in kind.without else ""
            return (
                f"{lacks}, which is a key of {_listed(owners)}: choose one of these methods, or leave {key} out.{why}"
            )
        if key in FederationFile.__struct_fields__:
            return f"{lacks}: it is a key of the file, to be written above the first [table]."
        if place := place_of(key):
            return f"{lacks}: write {_moved(key, place)}."
        if near := difflib.get_close_matches(key, kind.__struct_fields__, 1):
            return f"{lacks}: did you mean {near[0]!r}?"
        return f"{lacks}. {_DOCS}"

    def _usable(self) -> Iterator[tuple[str, type[S]]]:
        for name in (*self.registry, *self.offline):
            with suppress(ConfigurationError):  # it cannot be used, which is reported where it is chosen
                yield name, self.settings(name)


def _own(method: type[S]) -> type[S]:
    return method


def _of_aggregator(method: type[Aggregator]) -> type[AggregatorSettings]:
    return method.Settings


AGGREGATION: Family[type[Aggregator], AggregatorSettings] = Family(
    "aggregation", "product", AGGREGATORS, _of_aggregator
)
SERVER_OPTIMISER: Family[type[ServerOptimiser], ServerOptimiser] = Family("server_optimiser", "none", OPTIMISERS, _own)
FILTER: Family[type[Filter], Filter] = Family("filter", "none", FILTERS, _own)
CLUSTERING: Family[type[Clusterer], Clusterer] = Family("clustering", "validated", CLUSTERERS, _own, {"ifca": IFCA})
INTERACTION: Family[type[Interaction], Interaction] = Family("interaction", "attention", INTERACTIONS, _own)
FAMILIES: Mapping[str, Family[Any, Any]] = MappingProxyType(
    {family.table: family for family in (AGGREGATION, SERVER_OPTIMISER, FILTER, CLUSTERING, INTERACTION)}
)

# Keys of the flat files of earlier versions that have another name in their table.
RENAMED: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "server_learning_rate": ("server_optimiser", "learning_rate"),
        "server_momentum": ("server_optimiser", "momentum"),
    }
)


def place_of(key: str) -> tuple[str, str] | None:
    """Return the table that a key belongs to, and its name there; None if no method has it."""
    if key in RENAMED:
        return RENAMED[key]
    return next(((family.table, key) for family in FAMILIES.values() if family.owners(key)), None)


def check_flat(table: Mapping[str, Any], source: str) -> None:
    """Refuse a file that has keys of methods beside its own, as those of earlier versions had.

    Raises:
        ConfigurationError: the message says what to write instead, for every such key.
    """
    moved = []
    for key, value in table.items():
        if key in FAMILIES:
            if isinstance(value, str):
                moved.append(f'{key} = "{value[:100]}" as method = "{value[:100]}" under [{key}]')
            elif not isinstance(value, dict):
                raise ConfigurationError(f"{source}: [{key}] is a table: write its keys on the lines below [{key}].")
        elif key not in FederationFile.__struct_fields__ and (place := place_of(key)):
            moved.append(_moved(key, place))
    if moved:
        raise ConfigurationError(
            f"{source}: settings of a method are in the method's table: write {', '.join(moved)}. Tables stand at the "
            "end of the file."
        )


def _toml(value: object) -> str:
    """Return a default as TOML. Numbers, texts and truth values look as in JSON; other values have no such form."""
    return json.dumps(value) if isinstance(value, bool | int | float | str) else repr(value)


def _moved(key: str, place: tuple[str, str]) -> str:
    table, name = place
    return f"{key} under [{table}]" if name == key else f"{key} as {name} under [{table}]"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
