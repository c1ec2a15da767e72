"""Messages and chunks that want to do harm, as bytes."""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from edge_sdk.wire.messages import MAX_MESSAGE
from tests.wire.test_messages import EXAMPLES

GOOD: dict[str, dict[str, Any]] = {
    type(example).__name__.lower(): msgspec.to_builtins(example, builtin_types=(bytes,)) for example in EXAMPLES
}


def packed(kind: str, **changes: Any) -> bytes:
    """An honest message with changes; a value of `...` takes a field away."""
    content = {**GOOD[kind], **changes}
    return msgspec.msgpack.encode({key: value for key, value in content.items() if value is not ...})


def manifest(**changes: Any) -> dict[str, Any]:
    return {**GOOD["offer"]["manifest"], **changes}


def profile(**changes: Any) -> dict[str, Any]:
    return {**GOOD["join"]["profile"], **changes}


NAN, INFINITY = float("nan"), float("inf")
MESSAGES: dict[str, bytes] = {
    "nothing": b"",
    "a NUL": b"\0",
    "not msgpack": b"\xc1",
    "text": b"{}",
    "a list": msgspec.msgpack.encode(["join"]),
    "a number": msgspec.msgpack.encode(1),
    "a map without a type": msgspec.msgpack.encode({"version": 1}),
    "an unknown type": msgspec.msgpack.encode({"type": "exec", "version": 1}),
    "a type that is a number": msgspec.msgpack.encode({"type": 1}),
    "keys that are numbers": msgspec.msgpack.encode({1: 2}),
    "another version": packed("leave", version=2),
    "a version that is text": packed("leave", version="1"),
    "a field too many": packed("leave", sudo=True),
    "a field too few": packed("join", profile=...),
    "two messages": packed("leave") + packed("leave"),
    "bytes behind it": packed("leave") + b"\0",
    "half a message": packed("join")[:-3],
    "a megabyte": bytes(1 << 20),
    "one byte too many": bytes(MAX_MESSAGE + 1),
    "a map of 2^32 - 1 keys": b"\xdf" + b"\xff" * 4,
    "a list of 2^32 - 1 values": b"\xdd" + b"\xff" * 4,
    "a text of 4 GB": b"\x81\xa4type\xdb" + b"\xff" * 4,
    "bytes of 2 GB": b"\x81\xa4type\xc6" + struct.pack(">I", 2**31),
    "lists in lists": b"\x91" * 100_000 + b"\xc0",
    "maps in maps": b"\x81\xa1a" * 40_000 + b"\xc0",
    "a text that is no UTF-8": b"\x81\xa4type\xa2\xff\xfe",
    "an extension": b"\xc7\x08\x05" + bytes(8),
    "a time": b"\xd6\xff" + bytes(4),
    "a round below zero": packed("offer", round=-1),
    "round zero": packed("roundstart", round=0),
    "a round of 2^63": packed("offer", round=2**63),
    "a round of 1.5": packed("offer", round=1.5),
    "a round that is true": packed("offer", round=True),
    "a loss of infinity": packed("offer", last_loss=INFINITY),
    "a loss beyond bounds": packed("offer", first_loss=1e10),
    "seconds below zero": packed("offer", train_seconds=-1.0),
    "no pictures": packed("offer", pictures=0),
    "a hash in capitals": packed("offer", manifest=manifest(sha256="A" * 64)),
    "a hash that is short": packed("offer", manifest=manifest(sha256="a" * 63)),
    "a hash with a line's end": packed("offer", manifest=manifest(sha256="a" * 64 + "\n")),
    "a hash that leads elsewhere": packed("offer", manifest=manifest(sha256="../../../etc/passwd")),
    "a content of nothing": packed("offer", manifest=manifest(size=0)),
    "a content of 2^40 bytes": packed("offer", manifest=manifest(size=2**40)),
    "chunks of one byte": packed("offer", manifest=manifest(chunk_size=1)),
    "chunks of a gigabyte": packed("offer", manifest=manifest(chunk_size=2**30)),
    "more chunks than a bitmap has": packed("offer", manifest=manifest(size=2**31 - 1, chunk_size=1024)),
    "a role that there is not": packed("offer", manifest=manifest(role="leaf")),
    "a name of a kilobyte": packed("offer", manifest=manifest(name="x" * 1000)),
    "a manifest under a signature": packed("offer", manifest=manifest(signature=bytes(64))),
    "a signature of a kilobyte": packed("signedstep", signature=bytes(1000)),
    "no signature": packed("signedstep", signature=...),
    "a masked sum of a megabyte": packed("sum", content=bytes(1 << 20)),
    "a state that nobody signed": packed("coordinatorstate", signature=...),
    "a step of a megabyte": packed("signedstep", step=bytes(1 << 20)),
    "a step that is a map": packed("signedstep", step=GOOD["finished"]),
    "an epoch below zero": packed("signedstep", epoch=-1),
    "a code that is not a number": packed("join", profile=profile(prompt_code=struct.pack("<f", NAN))),
    "a code of three bytes": packed("join", profile=profile(prompt_code=bytes(3))),
    "a picture code that is not a number": packed("join", profile=profile(picture_code=struct.pack("<f", NAN))),
    "a picture code of three bytes": packed("join", profile=profile(picture_code=bytes(3))),
    "a picture code of 64 KB": packed("join", profile=profile(picture_code=bytes(65536))),
    "a picture code that is text": packed("join", profile=profile(picture_code="abcd")),
    "a code of 64 KB": packed("join", profile=profile(prompt_code=bytes(65536))),
    "a code that is text": packed("join", profile=profile(prompt_code="abcd")),
    "a rank of zero": packed("join", profile=profile(max_rank=0)),
    "a rank of a million": packed("join", profile=profile(max_rank=10**6)),
    "a hundred capabilities": packed("join", profile=profile(capabilities={str(i): "x" for i in range(100)})),
    "a capability of a kilobyte": packed("join", profile=profile(capabilities={"x": "y" * 1000})),
    "an invitation of a kilobyte": packed("join", invitation=bytes(1000)),
    "a base id of nothing": packed("join", profile=profile(base_id="")),
    "no credit": packed("pull", credit=0),
    "a credit of a thousand": packed("pull", credit=1000),
    "a bitmap of 100 KB": packed("pull", missing=bytes(100_000)),
    "a thousand adapters": packed("finished", adapters=[manifest()] * 257),
    "seventeen frozen adapters": packed("roundstart", frozen=[manifest()] * 17),
    "a learning rate of zero": packed("roundstart", learning_rate=0.0),
    "a learning rate of two": packed("roundstart", learning_rate=2.0),
    "a learning rate that is no number": packed("roundstart", learning_rate=NAN),
    "a share that there is not": packed("roundstart", share="pictures"),
    "a deadline below zero": packed("roundstart", deadline=-1.0),
    "a federation that leads elsewhere": packed("coordinatorstate", federation="../x"),
    "a federation with a wildcard": packed("coordinatorstate", federation="#"),
    "a key of 31 bytes": packed("coordinatorstate", key=bytes(31)),
    "a hundred successions": packed("coordinatorstate", successions=GOOD["coordinatorstate"]["successions"] * 100),
    "a reason of a megabyte": packed("refused", reason="x" * 100_000),
}

# Contents of a masked sum's message.
SUMS: dict[str, bytes] = {
    "nothing": b"",
    "not msgpack": b"\xc1",
    "a step": msgspec.msgpack.encode(GOOD["finished"]),
    "a field too few": msgspec.msgpack.encode({"type": "reveal", "epoch": 1, "round": 1, "attempt": 1}),
    "a number of a kilobyte": msgspec.msgpack.encode(
        {"type": "reveal", "epoch": 1, "round": 1, "attempt": 1, "number": bytes(1000)}
    ),
    "a message of the coordinator": msgspec.msgpack.encode(
        {"type": "numbers", "epoch": 1, "round": 1, "attempt": 1, "numbers": b""}
    ),
    "lists in lists": b"\x91" * 100_000 + b"\xc0",
}

SHA = "ab" * 32


def chunk(index: int, data: bytes, sha256: str = SHA) -> bytes:
    return bytes.fromhex(sha256) + struct.pack("<I", index) + data


# Against a manifest of 2500 bytes in chunks of 1024.
CHUNKS: dict[str, bytes] = {
    "nothing": b"",
    "a head alone": chunk(0, b""),
    "a short head": bytes(35),
    "a megabyte": chunk(0, bytes(1 << 20)),
    "an index that there is not": chunk(3, bytes(1024)),
    "an index of 2^32 - 1": chunk(2**32 - 1, bytes(1024)),
    "a chunk too short": chunk(0, bytes(1023)),
    "a chunk too long": chunk(0, bytes(1025)),
    "a last chunk too long": chunk(2, bytes(1024)),
    "of another content": chunk(0, bytes(1024), "cd" * 32),
}

TOPICS = (
    "", "/", "impasto", "impasto/1/tastes", "impasto/1/tastes/dev", "impasto/1/tastes/dev/pi-4",
    "impasto/1/paintings/dev/pi-4/up/control", "impasto/2/tastes/dev/pi-4/up/control",
    "impasto/1/tastes/dev/+/up/control",
    "impasto/1/tastes/dev/#", "impasto/1/tastes/dev/../state", "impasto/1/tastes/dev/a b/state",
    "impasto/1/tastes/dev//state", "impasto/1/tastes/dev/-x/state", "impasto/1/tastes/dev/pi\0/state",
    "impasto/1/tastes/dev/pi\n/state", "impasto/1/tastes/dev/" + "x" * 65 + "/state", "$SYS/broker/version",
)  # fmt: skip
