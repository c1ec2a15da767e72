"""The interface of a privacy level."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from edge_sdk.privacy.basis import Basis, Matrix


class Level(ABC):
    """The way from a device's embedded captions or pictures to the code that leaves it, and back to numbers to compare.

    Attributes:
        name: its name in federation files and messages.
        fewest: fewest different captions, or pictures, that a code may be made of.
        needs_basis: true if prompt codes are made with the bundle's public basis.
        leaves: true if codes leave the device; others are of use there alone.
        noisy: true if answers to questions about codes have noise, so that all together keep an (epsilon, delta).
        centred: true if the decoded prompt code of an average device is zero, and its length is bounded.
        hides_not: the knowledge that prompt codes still give away, in one sentence.
        shows_pictures: the same of picture codes.
    """

    name: ClassVar[str]
    fewest: ClassVar[int] = 1
    needs_basis: ClassVar[bool] = False
    leaves: ClassVar[bool] = True
    noisy: ClassVar[bool] = False
    centred: ClassVar[bool] = False
    hides_not: ClassVar[str]
    shows_pictures: ClassVar[str]

    @abstractmethod
    def encode(self, vectors: Matrix, basis: Basis | None) -> bytes:
        """Return the prompt code of a device.

        Args:
            vectors: (captions, dim) embeddings of its different captions, at unit length.
            basis: the bundle's public basis; a level that does not need it ignores it.
        """

    @abstractmethod
    def decode(self, code: bytes) -> Matrix:
        """Return the numbers (k,) of a prompt code whose size is right."""

    @abstractmethod
    def size(self, dimensions: int | None) -> int | None:
        """Return the bytes of a prompt code for a text encoder of so many dimensions; None if they are not known."""

    @abstractmethod
    def encode_pictures(self, vectors: Matrix) -> bytes:
        """Return the picture code of a device.

        Args:
            vectors: (pictures, dim) embeddings of its different pictures, as the image encoder gives them.
        """

    @abstractmethod
    def decode_pictures(self, code: bytes) -> Matrix:
        """Return the numbers (k,) of a picture code whose size is right, in the units of the embeddings."""

    @abstractmethod
    def picture_size(self, dimensions: int) -> int:
        """Return the bytes of a picture code for an image encoder of so many dimensions."""
