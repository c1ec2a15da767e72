"""Methods by name: the built-in ones, and those of other packages.

A package offers a method as an entry point in its pyproject.toml, and needs no line here:

    [project.entry-points."impasto.aggregators"]
    tempered = "impasto_tempered:Tempered"

Built-in methods come first and cost nothing to look up. Entry points are searched once, when another name is looked up,
and a method is imported when it is used, not when it is listed. docs/methods.md shows how to write one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import TypeVar

from edge_sdk.errors import ConfigurationError

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Name -> method. Iterating yields all names, built-in ones first, and imports nothing.

    Args:
        group: name of the entry point group, such as "impasto.aggregators".
        built_in: the methods of this package.
        fault: returns the reason why an object is no such method, in words that continue its name; None if it is one.

    Raises (when a name that is not built in is looked up, and when names are listed):
        ConfigurationError: an entry point has the name of another method, cannot be loaded, or is no such method.
    """

    def __init__(self, group: str, built_in: Mapping[str, T], fault: Callable[[object], str | None]) -> None:
        self.group = group
        self.built_in: Mapping[str, T] = MappingProxyType(dict(built_in))
        self._fault = fault
        self._loaded: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name in self.built_in:
            return self.built_in[name]
        if name not in self._loaded:
            self._loaded[name] = self._load(self._entries[name])
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self._entries

    def __iter__(self) -> Iterator[str]:
        yield from self.built_in
        yield from self._entries

    def __len__(self) -> int:
        return len(self.built_in) + len(self._entries)

    @cached_property
    def _entries(self) -> Mapping[str, EntryPoint]:
        """Entry points of other packages, sorted by name."""
        found: dict[str, EntryPoint] = {}
        for entry in sorted(entry_points(group=self.group), key=lambda entry: (entry.name, package_of(entry))):
            taken = "is built in" if entry.name in self.built_in else ""
            if entry.name in found:
                taken = f"comes from {package_of(found[entry.name])} already"
            if taken:
                raise ConfigurationError(
                    f"Package {package_of(entry)} offers {entry.name!r} in {self.group}, a name that {taken}: "
                    "give its entry point another name, or uninstall the package."
                )
            found[entry.name] = entry
        return found

    def _load(self, entry: EntryPoint) -> T:
        where = f"{self.group}: {entry.name!r} ({entry.value}) of package {package_of(entry)}"
        try:
            method = entry.load()
        except Exception as error:  # somebody else's module may fail in any way
            raise ConfigurationError(
                f"{where} cannot be loaded ({type(error).__name__}: {error}): update the package, or uninstall it."
            ) from error
        if fault := self._fault(method):
            raise ConfigurationError(f"{where} {fault}: correct its entry point, or uninstall the package.")
        loaded: T = method
        return loaded


def package_of(entry: EntryPoint) -> str:
    """Return the name of the package that has an entry point."""
    return str(entry.dist.metadata["Name"]) if entry.dist else "without a name"


def not_callable(method: object) -> str | None:
    """Return the fault of an object that must be a function and is not callable; None if it is."""
    return None if callable(method) else "is not callable"
