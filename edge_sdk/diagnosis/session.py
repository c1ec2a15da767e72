"""A diagnostic connection: one thread and no retries. It keeps the broker's answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_sdk.diagnosis.finding import Finding, broken
from edge_sdk.diagnosis.line import DEADLINE, context, last_word
from edge_sdk.transport import ENCRYPTED, SESSION_EXPIRY, Settings, Tls, fresh_id, reasons
from edge_sdk.transport.mqtt.tolerant import TolerantClient


class _Answers:
    def __init__(self) -> None:
        self.connack: tuple[ReasonCode, Properties | None] | None = None
        self.suback: dict[int, ReasonCode] = {}
        self.puback: dict[int, ReasonCode] = {}
        self.messages: list[tuple[str, bytes]] = []
        self.log: list[str] = []


class Session:
    """A diagnostic connection, made by `open_session`. Use it as a context manager; leaving it disconnects."""

    def __init__(self, client: Client, answers: _Answers) -> None:
        self._client = client
        self._answers = answers

    @property
    def properties(self) -> Properties | None:
        """The broker's properties in its CONNACK; None if it sent none."""
        return self._answers.connack[1] if self._answers.connack else None

    def subscribe(self, topic_filter: str) -> ReasonCode | None:
        """Subscribe and return the broker's answer; None if there was none in time."""
        _, number = self._client.subscribe(topic_filter, qos=1)
        return self._answer(self._answers.suback, number)

    def publish_nothing(self, topic: str) -> ReasonCode | None:
        """Publish an empty message that is not retained, which receivers ignore, and return the broker's answer.

        None if there was no answer in time.
        """
        return self._answer(self._answers.puback, self._client.publish(topic, b"", qos=1).mid)

    def message_on(self, topic: str) -> bytes | None:
        """The first message on a topic, awaited for two seconds (retained ones come at once); None if there is none."""

        def found() -> bytes | None:
            return next((payload for at, payload in self._answers.messages if at == topic), None)

        _pump(self._client, lambda: found() is not None, 2.0)
        return found()

    def _answer(self, answers: dict[int, ReasonCode], number: int | None) -> ReasonCode | None:
        if number is not None:
            _pump(self._client, lambda: number in answers, DEADLINE)
        return answers.get(number) if number is not None else None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        goodbye = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
        goodbye.SessionExpiryInterval = 0
        self._client.disconnect(properties=goodbye)
        _pump(self._client, lambda: False, 1.0)


def open_session(settings: Settings) -> Session | Finding:
    """Connect as a device would, and return the session, or the finding that says what is wrong."""
    address = settings.address
    answers = _Answers()
    client = _client(settings, answers)
    wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    wishes.SessionExpiryInterval = SESSION_EXPIRY
    try:
        client.connect(address.host, address.port, settings.keepalive, properties=wishes)
    except OSError as error:
        answers.log.append(str(error))
    else:
        _pump(client, lambda: answers.connack is not None, DEADLINE)
    if answers.connack is None:
        return _silent(settings, answers.log)
    reason, _ = answers.connack
    return _refused(reason, settings) if reason.is_failure else Session(client, answers)


def _client(settings: Settings, answers: _Answers) -> Client:
    client = TolerantClient(CallbackAPIVersion.VERSION2, settings.client_id or fresh_id("doctor"), protocol=MQTTv5)
    username, password = settings.credentials
    if username is not None:
        client.username_pw_set(username, password)
    if settings.address.scheme == ENCRYPTED:
        client.tls_set_context(context(settings.tls or Tls()))
    client.connect_timeout = DEADLINE

    def on_connect(_: Client, __: object, flags: object, reason: ReasonCode, properties: Properties | None) -> None:
        answers.connack = reason, properties

    def on_subscribe(_: Client, __: object, number: int, reasons: list[ReasonCode], properties: object) -> None:
        answers.suback[number] = reasons[0]

    def on_publish(_: Client, __: object, number: int, reason: ReasonCode, properties: object) -> None:
        answers.puback[number] = reason

    def on_message(_: Client, __: object, message: Any) -> None:
        answers.messages.append((message.topic, bytes(message.payload)))

    client.on_connect, client.on_subscribe, client.on_publish = on_connect, on_subscribe, on_publish
    client.on_message = on_message
    client.on_log = lambda _, __, level, text: answers.log.append(text)
    return client


def _pump(client: Client, done: Callable[[], bool], seconds: float) -> None:
    """Run the client's network loop until `done`, a lost connection, or the end of `seconds`."""
    until = time.monotonic() + seconds
    while not done() and (left := until - time.monotonic()) > 0:
        if client.loop(min(0.2, left)) != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return


def _silent(settings: Settings, log: list[str]) -> Finding:
    """The finding for a broker that was reached but sent no CONNACK."""
    address = settings.address
    encrypted = address.scheme == ENCRYPTED
    said = " ".join([*log, last_word(settings) if encrypted else ""])
    return broken(reasons.of_alert(said, address.endpoint) or reasons.hung_up(address.endpoint, encrypted=encrypted))


def _refused(reason: ReasonCode, settings: Settings) -> Finding:
    return broken(reasons.of_refusal(reason.value, str(reason), settings.credentials[0]))
