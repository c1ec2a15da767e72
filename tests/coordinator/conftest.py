"""A broker in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge_sdk.transport.memory import MemoryBroker


@pytest.fixture
def url() -> Iterator[str]:
    with MemoryBroker() as broker:
        yield broker.url
