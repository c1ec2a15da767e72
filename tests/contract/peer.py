"""A device written by hand from docs/protocol.md and docs/adapters.md: paho, msgpack, safetensors, and nothing of ours.

It does what a test tells it to, also what it must not do. It answers pulls for what it offers by itself.
"""

from __future__ import annotations

import hashlib
import queue
import secrets
import struct
from collections.abc import Mapping
from typing import Any

import msgspec.msgpack as msgpack
import numpy as np
import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from safetensors.numpy import load, save

PATIENCE = 20.0
CHUNK = 131036
Message = dict[str, Any]
Tensors = Mapping[str, np.ndarray[Any, Any]]


class Peer:
    """Args: index: the bundle's impasto.json; presence: whether it shows any; profile: what it joins with, changed."""

    def __init__(
        self,
        port: int,
        federation: str,
        device: str,
        index: Mapping[str, Any],
        *,
        presence: bool = True,
        **profile: Any,
    ) -> None:
        self.device, self.federation, self.index = device, federation, index
        known = {"base_id": index["base_id"], "prompt_code": bytes(range(16)), "pictures": 5, "max_rank": 8}
        known |= {"level": "coarse", "basis": bytes.fromhex(index["prompt_basis"]["id"])}
        self.profile: Message = known | profile
        self.root = f"impasto/1/{federation}/dev/{device}"
        self.heard: queue.Queue[Message] = queue.Queue()
        self.chunks: queue.Queue[bytes] = queue.Queue()
        self.key: bytes | None = None
        self.served: dict[str, tuple[Message, bytes]] = {}
        self.asked: dict[str, int] = {}  # chunks that were asked for, by content
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, secrets.token_hex(10), protocol=mqtt.MQTTv5, reconnect_on_failure=False
        )
        self.client.on_message = self._arrived
        subscribed: queue.Queue[int] = queue.Queue()
        self.client.on_subscribe = lambda *arguments: subscribed.put(0)
        if presence:
            self.client.will_set(f"{self.root}/state", msgpack.encode(self._presence(False)), 1, retain=True)
        limits = Properties(PacketTypes.CONNECT)
        limits.SessionExpiryInterval = 60
        self.client.connect("127.0.0.1", port, properties=limits)
        self.client.loop_start()
        self.client.subscribe([(f"{self.root}/down/+", _qos()), (f"impasto/1/{federation}/coordinator/state", _qos())])
        subscribed.get(timeout=PATIENCE)
        if presence:
            self.show()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    # saying ---------------------------------------------------------------------------------------------------------

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.client.publish(topic, payload, 1, retain).wait_for_publish(PATIENCE)

    def say(self, kind: str, **fields: Any) -> None:
        self.publish(f"{self.root}/up/control", msgpack.encode({"type": kind, **fields}))

    def show(self, *, online: bool = True, epoch: int | None = None) -> None:
        message = self._presence(online) | ({} if epoch is None else {"epoch": epoch})
        self.publish(f"{self.root}/state", msgpack.encode(message), retain=True)

    def join(self, **changes: Any) -> None:
        self.say("join", profile=self.profile | changes)

    def hello(self, own: Ed25519PrivateKey, number: int) -> None:
        """Signed over the profile that it joins with."""
        told = self.profile
        capabilities = sorted([name, value] for name, value in told.get("capabilities", {}).items())
        names = ("base_id", "prompt_code", "pictures", "max_rank")
        fields = [*(told[name] for name in names), capabilities]
        fields += [told["key"], told["level"], told["basis"]]
        fields += [told.get(name, b"") for name in ("picture_code", "picture_encoder")]
        digest = hashlib.sha256(msgpack.encode(fields)).digest()
        content = ["impasto/1 hello", self.federation, self.device, 1, number, digest]
        self.say("hello", epoch=1, number=number, signature=own.sign(msgpack.encode(content)))

    def offer(
        self, start: Message, tensors: Tensors, *, pictures: int = 5, base_id: str | None = "", **changes: Any
    ) -> str:
        """Offer an update; `changes` to the offer. The hash of its content."""
        metadata = {} if base_id is None else {"impasto.base_id": base_id or self.index["base_id"]}
        return self.offer_bytes(start, save(dict(tensors), metadata), pictures=pictures, **changes)

    def offer_bytes(self, start: Message, data: bytes, *, pictures: int = 5, **changes: Any) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        manifest = {"role": "update", "name": "mine", "sha256": sha256, "size": len(data), "chunk_size": CHUNK}
        manifest |= changes.pop("manifest", {})
        self.served[manifest["sha256"]] = manifest, data
        fields = {"round": start["round"], "attempt": start["attempt"], "manifest": manifest, "pictures": pictures}
        self.say("offer", **(fields | {"first_loss": 1.0, "last_loss": 0.5, "train_seconds": 0.1} | changes))
        return str(manifest["sha256"])

    # hearing --------------------------------------------------------------------------------------------------------

    def hear(self, kind: str, **fields: Any) -> Message:
        """The next message of a kind, with these fields; others are passed over, into `passed`."""
        self.passed: list[Message] = []
        while True:
            message = self.heard.get(timeout=PATIENCE)
            if message["type"] == kind and all(message.get(key) == value for key, value in fields.items()):
                return message
            self.passed.append(message)

    def said_meanwhile(self) -> list[Message]:
        """All that has come so far."""
        found = []
        while not self.heard.empty():
            found.append(self.heard.get())
        return found

    def fetch(self, manifest: Message) -> bytes:
        """Pull a content, all of its chunks at once, then say that it is stored."""
        count = -(-manifest["size"] // manifest["chunk_size"])
        missing = np.packbits(np.ones(count, np.uint8), bitorder="little").tobytes()
        self.say("pull", sha256=manifest["sha256"], missing=missing, credit=min(64, count))
        parts: dict[int, bytes] = {}
        while len(parts) < count:
            payload = self.chunks.get(timeout=PATIENCE)
            if payload[:32].hex() == manifest["sha256"]:
                parts[struct.unpack("<I", payload[32:36])[0]] = payload[36:]
        data = b"".join(parts[index] for index in range(count))
        assert hashlib.sha256(data).hexdigest() == manifest["sha256"]
        self.say("committed", sha256=manifest["sha256"])
        return data

    def products(self, manifest: Message) -> dict[str, np.ndarray[Any, Any]]:
        """By layer B A of an adapter that is fetched."""
        return products(load(self.fetch(manifest)))

    # what it trains -------------------------------------------------------------------------------------------------

    def update(self, seed: int, rank: int = 4, scale: float = 0.1) -> dict[str, np.ndarray[Any, Any]]:
        """A and B at random, for every layer that devices train."""
        rng = np.random.default_rng(seed)
        tensors = {}
        for slot in self.index["slots"]:
            if slot["name"].endswith((".to_q", ".to_k", ".to_v", ".to_out.0")):
                for key, shape in (("lora_A", (rank, slot["in_features"])), ("lora_B", (slot["out_features"], rank))):
                    tensors[f"{slot['name']}.{key}.weight"] = (scale * rng.normal(size=shape)).astype(np.float32)
        return tensors

    # inside ---------------------------------------------------------------------------------------------------------

    def _presence(self, online: bool) -> Message:
        return {"type": "presence", "online": online, "epoch": 1}

    def _arrived(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        if message.topic.endswith("/chunk"):
            self.chunks.put(message.payload)
            return
        if not message.payload:
            return
        content = msgpack.decode(message.payload)
        if content["type"] == "coordinatorstate":
            self.key = content["key"] if self.key is None and content["online"] else self.key
        elif content["type"] == "signedstep":
            signed = ["impasto/1 step", self.federation, self.device, content["epoch"], content["step"]]
            assert self.key is not None, "its state comes first"
            Ed25519PublicKey.from_public_bytes(self.key).verify(content["signature"], msgpack.encode(signed))
            content = msgpack.decode(content["step"])
        elif content["type"] == "pull" and content["sha256"] in self.served:
            self._serve(content)
        self.heard.put(content)

    def _serve(self, pull: Message) -> None:
        manifest, data = self.served[pull["sha256"]]
        size, left = manifest["chunk_size"], pull["credit"]
        bits = np.unpackbits(np.frombuffer(pull["missing"], np.uint8), bitorder="little")
        for index in np.flatnonzero(bits)[:left]:
            piece = data[index * size : (index + 1) * size]
            head = bytes.fromhex(pull["sha256"]) + struct.pack("<I", index)
            self.client.publish(f"{self.root}/up/chunk", head + piece, 1)
            self.asked[pull["sha256"]] = self.asked.get(pull["sha256"], 0) + 1


def products(tensors: Tensors) -> dict[str, np.ndarray[Any, Any]]:
    """By layer B A, in float64."""
    names = {key.rsplit(".lora_", 1)[0] for key in tensors}
    return {
        name: tensors[f"{name}.lora_B.weight"].astype(np.float64) @ tensors[f"{name}.lora_A.weight"].astype(np.float64)
        for name in names
    }


def _qos() -> mqtt.SubscribeOptions:
    return mqtt.SubscribeOptions(qos=1)
