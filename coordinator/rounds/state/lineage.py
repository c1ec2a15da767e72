"""Results of learning so far: of the root, and of each cluster."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edge_sdk.wire import Manifest


class Lineage(msgspec.Struct, frozen=True):
    """Learning result of the root or of a cluster so far.

    Attributes:
        start: the adapter that devices start from; None: a fresh initialisation.
        folded: the adapter that a method has folded under it; None: nothing.
        moments: hash of the server optimiser's moments; None: none.
    """

    start: Manifest | None = None
    folded: Manifest | None = None
    moments: str | None = None

    @property
    def adapters(self) -> list[Manifest]:
        """The adapters that a device needs."""
        return [manifest for manifest in (self.start, self.folded) if manifest]

    def blobs(self) -> Iterator[str]:
        """Yield the hashes of all its blobs."""
        yield from (manifest.sha256 for manifest in self.adapters)
        if self.moments:
            yield self.moments
