"""Every broker that transports are tested over."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

import pytest

from edge_sdk.transport import Transport, connect
from edge_sdk.transport.embedded import EmbeddedBroker
from edge_sdk.transport.memory import MemoryBroker
from tests.transport.brokers import Mosquitto

Connect = Callable[..., Transport]
_NUMBERS = itertools.count()


@pytest.fixture(scope="module", params=["memory", "iotcore", "mosquitto"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    brokers: dict[str, Callable[[], contextlib.AbstractContextManager[MemoryBroker | EmbeddedBroker | Mosquitto]]] = {
        "memory": MemoryBroker,
        "iotcore": EmbeddedBroker,
        "mosquitto": lambda: Mosquitto(tmp_path_factory.mktemp("mosquitto")),
    }
    with brokers[request.param]() as broker:
        yield broker.url


@pytest.fixture
def client(url: str) -> Iterator[Connect]:
    """Connect to the broker under test; closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(**options: object) -> Transport:
            options.setdefault("client_id", f"client-{next(_NUMBERS)}")
            transport = connect(url, **options)  # type: ignore[arg-type]
            stack.callback(transport.close)
            return transport

        yield make


@pytest.fixture
def root() -> str:
    """A topic that no other test uses."""
    return f"test-{next(_NUMBERS)}"
