"""The protocol as an AsyncAPI 3 document, made from the registries of topics and messages.

    python -m edge_sdk.asyncapi > docs/asyncapi.yaml

It gives machine-readable schemas for docs/protocol.md, which alone says what a message means and when to send it.
Payloads are msgpack; `format: binary` in a schema stands for msgpack's bin. Operations are those of a device.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, get_args

import msgspec

from edge_sdk import secure_aggregation as sums
from edge_sdk.transport import DEFAULT_MAX_PAYLOAD, PACKET_MARGIN, RECEIVE_MAXIMUM, SESSION_EXPIRY
from edge_sdk.wire import NAME, ROOT, Topics, assist
from edge_sdk.wire import messages as m

Json: TypeAlias = dict[str, Any]

_CONTENT = "application/msgpack"
_QOS = {"mqtt": {"qos": 1, "retain": False, "bindingVersion": "0.2.0"}}
_RETAINED = {"mqtt": {"qos": 1, "retain": True, "bindingVersion": "0.2.0"}}
_SCHEMAS = "#/components/schemas/"
# Messages that a device sends and receives on its control topics; transfers go both ways.
DEVICE_SAYS: tuple[type[msgspec.Struct], ...] = (
    m.Join, m.Hello, m.Offer, m.Sum, m.Leave, m.Forget, m.Pull, m.Committed, m.Refused,
)  # fmt: skip
DEVICE_HEARS: tuple[type[msgspec.Struct], ...] = (
    m.Welcome, m.SignedStep, m.SignedSum, m.RoundDone, m.Forgotten, m.Pull, m.Committed, m.Refused,
)  # fmt: skip
# Messages that a signed step may hold, encoded.
STEPS: tuple[type[msgspec.Struct], ...] = (m.RoundStart, m.ClusterStart, m.Finished)
# Messages that a sum, and a signed sum, may hold, encoded.
IN_SUMS: tuple[type[msgspec.Struct], ...] = get_args(sums.FromDevice)
IN_SIGNED_SUMS: tuple[type[msgspec.Struct], ...] = get_args(sums.FromCoordinator)
# Messages between a device and a helper, on topics of their own; transfers as above.
DEVICE_ASKS: tuple[type[msgspec.Struct], ...] = get_args(assist.FromDevice)
HELPER_ANSWERS: tuple[type[msgspec.Struct], ...] = get_args(assist.FromHelper)
# Messages that an ask may hold, encoded.
ASKED: tuple[type[msgspec.Struct], ...] = (assist.Drawing,)
# Message -> the messages that it may hold, and the field's name.
_HELD: Mapping[type[msgspec.Struct], tuple[str, Sequence[type[msgspec.Struct]]]] = {
    m.SignedStep: ("x-step", STEPS),
    m.Sum: ("x-content", IN_SUMS),
    m.SignedSum: ("x-content", IN_SIGNED_SUMS),
    assist.Ask: ("x-drawing", ASKED),
}


def document() -> Json:
    """The whole document, as JSON values."""
    alike = dict.fromkeys((*DEVICE_SAYS, *DEVICE_HEARS, *STEPS, *IN_SUMS, *IN_SIGNED_SUMS))
    with_helpers: dict[type[msgspec.Struct], None] = dict.fromkeys(
        (*alike, *DEVICE_ASKS, *HELPER_ANSWERS, *ASKED, assist.HelperState)
    )
    kinds: list[type[msgspec.Struct]] = [*with_helpers, m.CoordinatorState, m.Presence]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_SCHEMAS + "{name}")
    return {
        "asyncapi": "3.0.0",
        "id": "urn:impasto:protocol:1",
        "info": {
            "title": "Impasto",
            "version": f"{m.VERSION}.0.0",
            "description": (
                "How devices learn together: they share encoded prompts and adapter updates with a coordinator, never "
                "pictures; a prompt goes to a helper only, if its owner says so. docs/protocol.md and assist.md say "
                "what each message means and when it is sent."
            ),
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "tags": [{"name": "federated-learning"}, {"name": "mqtt"}],
        },
        "defaultContentType": _CONTENT,
        "servers": _servers(),
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": {_title(kind): _message(kind) for kind in kinds} | {"chunk": _chunk()},
            "schemas": {name: _portable(schema) for name, schema in sorted(schemas.items())},
        },
    }


def to_yaml(content: Json) -> str:
    """The document's text."""
    import yaml

    # By way of JSON no two places share an object, which YAML would write as references.
    apart = json.loads(json.dumps(content))
    return str(yaml.safe_dump(apart, sort_keys=False, width=120, allow_unicode=True))


def _servers() -> Json:
    session = {"cleanSession": True, "keepAlive": 30, "bindingVersion": "0.2.0"}
    limits = {"sessionExpiryInterval": SESSION_EXPIRY, "maximumPacketSize": DEFAULT_MAX_PAYLOAD + PACKET_MARGIN}
    made: Json = {}
    for scheme, port, description in (
        ("mqtt", "1883", "A broker on this machine."),
        ("mqtts", "8883", "A broker beyond it, encrypted."),
    ):
        made[scheme] = {
            "host": "{host}:{port}",
            "protocol": "secure-mqtt" if scheme == "mqtts" else "mqtt",
            "protocolVersion": "5.0",
            "description": f"{description} Receive Maximum {RECEIVE_MAXIMUM} is announced, the broker's is respected.",
            "variables": {"host": {"default": "127.0.0.1"}, "port": {"default": port}},
            "bindings": {"mqtt": {**session, **limits}},
        }
    return made


def _channels() -> Json:
    topics = _Template()
    federation = {"description": "The federation's name, one level."}
    device = {"description": f"The device's name in it: {NAME.pattern}"}
    helper = {"description": f"The helper's name: {NAME.pattern}"}
    here, there = {"federation": federation}, {"federation": federation, "device": device}
    between = {"federation": federation, "helper": helper, "device": device}

    def channel(address: str, parameters: Json, names: Sequence[str], description: str) -> Json:
        listed = {name: {"$ref": f"#/components/messages/{name}"} for name in names}
        return {"address": address, "description": description, "parameters": parameters, "messages": listed}

    says, hears, asks, answers = (
        [_title(kind) for kind in kinds] for kinds in (DEVICE_SAYS, DEVICE_HEARS, DEVICE_ASKS, HELPER_ANSWERS)
    )
    return {
        "coordinatorState": channel(
            topics.coordinator_state, here, ["coordinatorstate"], "Retained, and the coordinator's will."
        ),
        "presence": channel(topics.presence, there, ["presence"], "Retained, and the device's will."),
        "controlUp": channel(topics.control_up, there, says, "What a device says."),
        "controlDown": channel(topics.control_down, there, hears, "What the coordinator says to one device."),
        "chunkUp": channel(topics.chunk_up, there, ["chunk"], "Pieces of an update, as the coordinator pulls them."),
        "chunkDown": channel(topics.chunk_down, there, ["chunk"], "Pieces of an adapter, as the device pulls them."),
        "helperState": channel(
            topics.helper_state,
            {"federation": federation, "helper": helper},
            ["helperstate"],
            "Retained, and the helper's will.",
        ),
        "assistUp": channel(topics.assist_up, between, asks, "What a device asks of a helper."),
        "assistDown": channel(topics.assist_down, between, answers, "What a helper answers."),
        "assistChunkDown": channel(
            topics.assist_chunk_down, between, ["chunk"], "Pieces of a drawing's state, as the device pulls them."
        ),
    }


def _operations() -> Json:
    plan = (
        ("announce", "send", "presence", _RETAINED, "Birth; the broker publishes the will at death."),
        ("say", "send", "controlUp", _QOS, "Join, offer, leave, and a device's side of transfers."),
        ("upload", "send", "chunkUp", _QOS, "Answers to pulls."),
        ("watch", "receive", "coordinatorState", _RETAINED, "Whether somebody coordinates."),
        ("hear", "receive", "controlDown", _QOS, "Rounds, and the coordinator's side of transfers."),
        ("download", "receive", "chunkDown", _QOS, "Answers to the device's pulls."),
        ("lookForHelpers", "receive", "helperState", _RETAINED, "Who draws for devices, with which bundle."),
        ("ask", "send", "assistUp", _QOS, "For the first steps of a drawing."),
        ("hearHelper", "receive", "assistDown", _QOS, "A place in the queue, a refusal, an answer."),
        ("downloadState", "receive", "assistChunkDown", _QOS, "Answers to the device's pulls."),
    )
    return {
        name: {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "summary": summary,
            "bindings": bindings,
        }
        for name, action, channel, bindings, summary in plan
    }


def _message(kind: type[msgspec.Struct]) -> Json:
    made: Json = {
        "name": _title(kind),
        "title": kind.__name__,
        "summary": (kind.__doc__ or "").split("\n")[0],
        "contentType": _CONTENT,
        "payload": {"$ref": _SCHEMAS + kind.__name__},
    }
    if kind in _HELD:  # one of these is in its field
        name, held = _HELD[kind]
        made[name] = [{"$ref": f"#/components/messages/{_title(step)}"} for step in held]
    return made


def _chunk() -> Json:
    return {
        "name": "chunk",
        "title": "Chunk",
        "summary": "A piece of a transfer: 32 bytes of its hash, its index as a little-endian uint32, then the bytes.",
        "contentType": "application/octet-stream",
        "payload": {
            "type": "string",
            "format": "binary",
            "minLength": m.CHUNK_HEADER + 1,
            "maxLength": m.MAX_CHUNK,
        },
    }


class _Template:
    """The topics with {federation} and {device} in them, from the code that makes real ones."""

    def __init__(self) -> None:
        # Names that no topic contains by itself.
        topics, federation, device, helper = Topics("F0"), "F0", "D0", "H0"

        def open_up(topic: str) -> str:
            levels = topic.removeprefix(f"{ROOT}/").split("/")
            named = {federation: "{federation}", device: "{device}", helper: "{helper}"}
            return "/".join([ROOT, *(named.get(level, level) for level in levels)])

        self.coordinator_state = open_up(topics.coordinator_state)
        self.presence = open_up(topics.presence(device))
        self.control_up = open_up(topics.control(device, "up"))
        self.control_down = open_up(topics.control(device, "down"))
        self.chunk_up = open_up(topics.chunks(device, "up"))
        self.chunk_down = open_up(topics.chunks(device, "down"))
        self.helper_state = open_up(topics.helper_state(helper))
        self.assist_up = open_up(topics.assist(helper, device, "up"))
        self.assist_down = open_up(topics.assist(helper, device, "down"))
        self.assist_chunk_down = open_up(topics.assist_chunks(helper, device, "down"))


def _title(kind: type[msgspec.Struct]) -> str:
    """A message's "type"."""
    return kind.__name__.lower()


def _portable(schema: Any) -> Any:
    """msgspec's schema for JSON, changed into one for msgpack that every validator understands."""
    if isinstance(schema, list):
        return [_portable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return dict(_portable_items(schema))


def _portable_items(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    binary = schema.get("contentEncoding") == "base64"
    for key, value in schema.items():
        if key == "contentEncoding" and binary:
            yield "format", "binary"
        elif key in ("minLength", "maxLength") and binary:
            yield key, _decoded_length(value)
        elif key == "description":
            yield key, inspect.cleandoc(value)
        elif key == "pattern":
            yield key, value.replace(r"\Z", "$")  # other languages have no \Z
        else:
            yield key, _portable(value)


def _decoded_length(characters: int) -> int:
    """Bytes of so many characters of base64; all limits of this protocol are multiples of four bytes."""
    return characters * 3 // 4 // 4 * 4


def main() -> None:
    """Print the document."""
    sys.stdout.write(to_yaml(document()))


if __name__ == "__main__":
    main()
