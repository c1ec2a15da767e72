"""A real MQTT 5 broker (rumqttd, through the iotcore package) beside this process, for demos and single machines.

It listens on the loopback interface only and asks for no password: for more than one machine, use Mosquitto or a hosted
broker. Its process ends with ours. It needs the extra `impasto[broker]`.
"""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from edge_sdk.errors import BrokerUnreachable
from edge_sdk.transport.base import DEFAULT_MAX_PAYLOAD, PACKET_MARGIN

if TYPE_CHECKING:
    from iotcore import Broker

_HOST = "127.0.0.1"
_ATTEMPTS = 5

# rumqttd keeps up to segment_count segments of messages for each filter; readers that are further behind lose data.
_CONFIGURATION = """
id = 0

[router]
id = 0
max_connections = 1010
max_outgoing_packet_count = 200
max_segment_size = 4194304
max_segment_count = 16

[v5.1]
name = "v5"
listen = "{host}:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {max_packet}
max_inflight_count = 100
dynamic_filters = true
"""


class EmbeddedBroker:
    """The embedded broker. Use it as a context manager, or call `start` and `stop`.

    Args:
        port: port on the loopback interface; None takes a free one.
        max_payload: bytes of the largest message.
        deadline: seconds that starting may take.
    """

    def __init__(
        self, port: int | None = None, *, max_payload: int = DEFAULT_MAX_PAYLOAD, deadline: float = 30.0
    ) -> None:
        self._port = port
        self._max_packet = max_payload + PACKET_MARGIN
        self._deadline = deadline
        self._broker: Broker | None = None

    @property
    def port(self) -> int:
        """The port that it listens on.

        Raises:
            BrokerUnreachable: it has not been started.
        """
        if self._port is None:
            raise BrokerUnreachable("The embedded broker is not running: call start() first.")
        return self._port

    @property
    def url(self) -> str:
        return f"mqtt://{_HOST}:{self.port}"

    def start(self) -> EmbeddedBroker:
        """Start the broker and wait until it accepts connections. A restart after `stop` uses the same port.

        Raises:
            BrokerUnreachable: iotcore is not installed, the port is taken, or it does not come up in time.
        """
        if self._broker is not None:
            return self
        try:
            from iotcore import Broker
        except ImportError as error:
            raise BrokerUnreachable(
                "The embedded broker needs iotcore: pip install 'impasto[broker]', or give the URL of another broker."
            ) from error
        failure: Exception | None = None
        for _ in range(_ATTEMPTS):
            port = self._port or _free_port()
            with tempfile.TemporaryDirectory(prefix="impasto-broker-") as folder:
                path = Path(folder) / "rumqttd.toml"
                path.write_text(
                    _CONFIGURATION.format(host=_HOST, port=port, max_packet=self._max_packet), encoding="utf-8"
                )
                try:
                    # The child reads the file before it listens, and `start` waits until it does.
                    self._broker = Broker(config_path=str(path)).start(timeout=self._deadline)
                except (OSError, RuntimeError) as error:  # another process has taken the free port meanwhile
                    failure = error
                    if self._port is not None:
                        break
                    continue
            self._port = port
            return self
        raise BrokerUnreachable(f"The embedded broker could not start on {_HOST}: {failure}.") from failure

    def stop(self) -> None:
        """Stop the broker and release the port. May be called again."""
        broker, self._broker = self._broker, None
        if broker is not None:
            broker.stop()

    def __enter__(self) -> EmbeddedBroker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port
