"""The interface of a privacy level."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from edge_sdk.privacy.basis import Basis, Matrix


class Level(ABC):
    """The way from a device's embedded captions to the code that leaves it, and back to numbers that can be compared.

    Attributes:
        name: its name in federation files and messages.
        fewest: fewest different captions that a code may be made of.
        needs_basis: true if codes are made with the bundle's public basis.
        centred: true if the decoded code of an average device is zero, and its length is bounded.
        hides_not: the knowledge that a code still gives away, in one sentence.
    """

    name: ClassVar[str]
    fewest: ClassVar[int] = 1
    needs_basis: ClassVar[bool] = False
    centred: ClassVar[bool] = False
    hides_not: ClassVar[str]

    @abstractmethod
    def encode(self, vectors: Matrix, basis: Basis | None) -> bytes:
        """Return the code of a device.

        Args:
            vectors: (captions, dim) embeddings of its different captions, at unit length.
            basis: the bundle's public basis; a level that does not need it ignores it.
        """

    @abstractmethod
    def decode(self, code: bytes) -> Matrix:
        """Return the numbers (k,) of a code whose size is right."""

    @abstractmethod
    def size(self, dimensions: int | None) -> int | None:
        """Return the bytes of a code for a text encoder of so many dimensions; None if they are not known."""
