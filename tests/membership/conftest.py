"""A broker in memory, and the test's side of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge_sdk.transport.memory import MemoryBroker
from tests.membership.stage import Stage


@pytest.fixture
def url() -> Iterator[str]:
    with MemoryBroker() as broker:
        yield broker.url


@pytest.fixture
def stage(url: str) -> Stage:
    return Stage(url)
