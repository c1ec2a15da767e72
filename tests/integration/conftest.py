"""A broker for the tests of whole federations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge_sdk.transport.embedded import EmbeddedBroker


@pytest.fixture
def embedded() -> Iterator[str]:
    """The URL of an embedded broker."""
    with EmbeddedBroker() as broker:
        yield broker.url
