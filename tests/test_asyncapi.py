"""docs/asyncapi.yaml is what the code says, and what really goes over the wire."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema import Draft7Validator, ValidationError, validators

from edge_sdk.asyncapi import document, to_yaml
from edge_sdk.membership import forget
from edge_sdk.transport import Settings, create
from edge_sdk.transport.memory import MemoryBroker
from edge_sdk.wire import messages as m
from tests.integration.coordinators import Coordinator, devices, write_federation
from tests.integration.local import choosing, write_local
from tests.wire.test_messages import EXAMPLES

FILE = Path(__file__).parents[1] / "docs" / "asyncapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
# Strings of JSON are bin of msgpack where the schema says so.
TYPES = Draft7Validator.TYPE_CHECKER.redefine("string", lambda checker, value: isinstance(value, str | bytes))
Validator = validators.extend(Draft7Validator, type_checker=TYPES)


def validate(name: str, payload: Any) -> None:
    """Against the schema of a message, by its name in the document."""
    schema = {**DOCUMENT["components"]["messages"][name]["payload"], "components": DOCUMENT["components"]}
    Validator(schema).validate(payload)


def channel_of(topic: str) -> Mapping[str, Any]:
    """The one channel whose address a topic fits."""
    found = []
    for channel in DOCUMENT["channels"].values():
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(channel["address"]))
        if re.fullmatch(pattern, topic):
            found.append(channel)
    assert len(found) == 1, topic
    return found[0]


def test_the_committed_document_is_what_the_command_makes() -> None:
    assert FILE.read_text("utf-8") == to_yaml(document())


def test_every_reference_leads_somewhere() -> None:
    def follow(value: Any) -> None:
        if isinstance(value, dict):
            if (reference := value.get("$ref")) is not None:
                at: Any = DOCUMENT
                for level in reference.removeprefix("#/").split("/"):
                    at = at[level]
            for item in value.values():
                follow(item)
        elif isinstance(value, list):
            for item in value:
                follow(item)

    follow(DOCUMENT)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_what_is_sent_fits_and_what_would_be_refused_does_not(example: m.Message) -> None:
    name = type(example).__name__.lower()
    content = msgspec.msgpack.decode(m.encode(example))
    validate(name, content)
    with pytest.raises(ValidationError):
        validate(name, {**content, "more": 1})
    with pytest.raises(ValidationError):
        validate(name, {**content, "version": 2})


def test_limits_of_binary_fields_are_those_of_the_code() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert "minLength" not in schemas["DeviceProfile"]["properties"]["prompt_code"]
    assert schemas["DeviceProfile"]["properties"]["prompt_code"]["maxLength"] == 16384
    assert schemas["DeviceProfile"]["properties"]["picture_code"]["maxLength"] == 16384
    assert "picture_code" not in schemas["DeviceProfile"]["required"]
    assert schemas["Pull"]["properties"]["missing"]["maxLength"] == m.MAX_CHUNKS // 8


# Few bits, so that six devices need not be everybody's neighbours.
UNDER_MASKS = """
[aggregation]
method = "fedit"
masked = true
colluding = 0.0
dropping = 0.0
largest_change = 8.0
[clustering]
method = "single"
"""


WITH_HELPERS = {"ask", "drawing", "cancel", "queued", "busy", "drawn", "helperstate"}


def test_a_whole_federation_keeps_to_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every message of three runs of six devices is checked, on its channel. Devices that wait say hello soon.

    After the first run a device is forgotten. In the second run updates are summed under masks, on a graph that is not
    complete. In the third one devices choose their clusters alone.
    """
    monkeypatch.setattr("edge_sdk.membership.rounds.machine.intervals.REPEAT", 0.01)
    monkeypatch.setattr("edge_sdk.membership.rounds.machine.intervals.LONGEST", 0.1)
    monkeypatch.setattr("edge_sdk.secure_aggregation.policy.COMPLETE_BELOW", 4)
    heard: list[tuple[str, bytes]] = []
    for kind in ("plain", "masked", "local"):
        folder, masked = tmp_path / kind, kind != "plain"
        folder.mkdir()
        with MemoryBroker() as broker:
            listener = create(Settings(url=broker.url, client_id="listener"))
            listener.connect(5.0)
            listener.subscribe("impasto/#", lambda topic, payload: heard.append((topic, payload)))
            if kind == "local":
                path = write_local(folder, broker.url, devices=6, masks="colluding = 0.0\ndropping = 0.0")
            else:
                path = write_federation(folder, broker.url, more=UNDER_MASKS if masked else "")
            coordinator = Coordinator(path, once=masked)
            for device in choosing(broker.url, folder, 6) if kind == "local" else devices(broker.url, folder):
                assert device.join().error is None
            if masked:
                coordinator.join()
            else:
                forget(broker.url, "tastes", folder / "device-0")
                coordinator.stop()
            listener.close()
    seen: set[str] = set()
    for topic, payload in heard:
        channel = channel_of(topic)
        if not payload:  # it clears a topic
            continue
        if "chunk" in channel["messages"]:
            validate("chunk", payload)
            seen.add("chunk")
            continue
        content = msgspec.msgpack.decode(payload)
        assert content["type"] in channel["messages"], topic
        validate(content["type"], content)
        seen.add(content["type"])
        if content["type"] == "signedstep":  # and what is in it
            step = msgspec.msgpack.decode(content["step"])
            validate(step["type"], step)
            seen.add(step["type"])
        if content["type"] in ("sum", "signedsum"):
            message = msgspec.msgpack.decode(content["content"])
            validate(message["type"], message)
            seen.add(message["type"])
        # Nobody was refused, but for what was repeated of a sum that is over.
        assert content["type"] != "refused" or content["about"] == "sum"
    # Those between devices and helpers: tests/assist/test_assisted_drawing.py.
    assert seen | {"refused"} == set(DOCUMENT["components"]["messages"]) - WITH_HELPERS
