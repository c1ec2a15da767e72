"""Fuzz targets: one function of bytes for each decoder. It returns or raises an ImpastoError; all else is a finding.

Examples are valid inputs to begin with; more lies in corpus/.
"""

from __future__ import annotations

import hashlib
import io
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from coordinator import config
from coordinator.identity.keys import Keys
from coordinator.learning.updates import Updates
from coordinator.rounds import Member
from coordinator.store import open_blobs
from edge_sdk import secure_aggregation as sums
from edge_sdk.adapter import Adapter, Share, beginning, complete, from_bytes, initial_adapter, pack, to_bytes
from edge_sdk.errors import ImpastoError
from edge_sdk.inference import Bundle, BundleIndex, Course, DrawingState, SolverState, read_state
from edge_sdk.inference.bundle.index import Slot
from edge_sdk.inference.sampling.schedulers.noise import NoiseSchedule
from edge_sdk.inference.sampling.tokenizer import Tokenizer
from edge_sdk.pictures import list_pictures, open_picture
from edge_sdk.wire import assist
from edge_sdk.wire.exchange import Exchange
from edge_sdk.wire.invitation import Invitation, read_invitation
from edge_sdk.wire.messages import (
    CoordinatorState,
    Finished,
    Pull,
    RoundStart,
    SignedStep,
    SignedSum,
    Sum,
    Welcome,
    decode,
    encode,
)
from edge_sdk.wire.signing import Signer, fingerprint, read_fingerprint, recognised, verified, verified_sum
from edge_sdk.wire.topics import Topics
from edge_sdk.wire.transfer import Receiver, decode_chunk, encode_chunk, make_manifest
from tests.coordinator.adapters import BASE_ID, SLOTS, random_adapter
from tests.integration.devices import FEDERATION
from tests.wire.test_assist import drawing
from tests.wire.test_assist import state as helper_state
from tests.wire.test_messages import EXAMPLES


@dataclass(frozen=True)
class Target:
    """run: the decoder; examples: valid inputs; memory: bytes that one input may take beside itself."""

    run: Callable[[bytes], object]
    examples: Callable[[], list[bytes]]
    memory: int = 64 << 20

    def __call__(self, data: bytes) -> bool:
        """Return True if the input is accepted. Errors other than ImpastoError are raised."""
        try:
            self.run(data)
        except ImpastoError as error:
            said = str(error)
        else:
            return True
        assert len(said) < 4000, "an error is for people"
        return False


@cache
def _folder() -> Path:
    """Folder of the files that decoders read."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="impasto-fuzz-", dir=memory if memory.is_dir() else None))


def _file(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


# the wire -----------------------------------------------------------------------------------------------------------

_CONTENT = bytes(range(250)) * 10
_MANIFEST = make_manifest(_CONTENT, "update", "x", 1024)
_CHUNKS = [
    encode_chunk(_MANIFEST.sha256, index, _CONTENT[1024 * index : 1024 * (index + 1)])
    for index in range(_MANIFEST.chunks)
]
_FEDERATION = "stickers"


def _chunk(data: bytes) -> None:
    decode_chunk(data)
    receiver = Receiver(_MANIFEST)
    before = receiver.received, receiver.buffer.read()
    try:
        receiver.on_chunk(data)
    except ImpastoError:
        assert (receiver.received, receiver.buffer.read()) == before, "a refused chunk changes nothing"
        raise


def _records(data: bytes) -> Iterator[bytes]:
    """The messages of a peer, each after its length in two bytes."""
    stream = io.BytesIO(data)
    while length := stream.read(2):
        yield stream.read(int.from_bytes(length, "little"))


def _joined(records: list[bytes]) -> bytes:
    return b"".join(len(record).to_bytes(2, "little") + record for record in records)


def _exchange(data: bytes) -> None:
    """A peer that says anything, in any order, to somebody who fetches one content and offers another."""
    exchange = Exchange(max_bytes=1 << 20)
    offered = make_manifest(_CONTENT[1:], "cluster", "cluster-1", 1024)
    exchange.offer(_CONTENT[1:], offered)
    exchange.fetch(_MANIFEST, 0.0, 60.0)
    for number, record in enumerate(_records(data)):
        try:
            if record[:1] >= b"\x80" and len(record) < 36 + 1024:  # a map
                exchange.on_message(decode(record), float(number))
            else:
                exchange.on_chunk(record, float(number))
        except ImpastoError:
            continue
        exchange.tick(float(number))


@cache
def _signer() -> Signer:
    return Signer(bytes(range(32)), _FEDERATION)


def _signed(data: bytes) -> None:
    message = decode(data)
    if isinstance(message, SignedStep):
        verified(message, _signer().public, _FEDERATION, "pi-4")
    elif isinstance(message, SignedSum):
        verified_sum(message, _signer().public, _FEDERATION, "pi-4")
    elif isinstance(message, CoordinatorState):
        recognised(_signer().public, message, _FEDERATION)


def _signed_examples() -> list[bytes]:
    signer, other = _signer(), Signer(bytes(32), _FEDERATION)
    steps = [signer.signed(step, "pi-4", 3) for step in EXAMPLES if isinstance(step, RoundStart | Finished)]
    rotated = other.state(
        online=True, epoch=3, base_id="b1", level="plain", successions=[signer.succession(other.public)]
    )
    said = signer.signed_sum(Sum(content=_sums()[0]), "pi-4", 3)
    return [encode(message) for message in (*steps, rotated, said)]


def _sums() -> list[bytes]:
    """A message of a masked sum of each kind."""
    numbers = {"epoch": 7, "round": 3, "attempt": 1}
    entry = sums.Advertisement(
        device="a",
        identity=bytes(32),
        mask_key=bytes(32),
        share_key=bytes(32),
        commitment=bytes(32),
        signature=bytes(64),
    )
    said: list[sums.Message] = [
        sums.Advertise(**numbers, advertisement=entry),
        sums.Roster(**numbers, neighbours=2, threshold=2, devices=[entry]),
        sums.Reveal(**numbers, number=bytes(16)),
        sums.Numbers(**numbers, numbers=bytes(32)),
        sums.Shares(**numbers, self_check=bytes(32), sealed=bytes(96)),
        sums.Delivery(**numbers, sharers=b"\x07", sealed=bytes(96)),
        sums.Ready(**numbers, signature=bytes(64)),
        sums.UnmaskRequest(**numbers, survivors=b"\x03", dropped=b"\x04", ready=bytes(64)),
        sums.Consent(**numbers, signature=bytes(64)),
        sums.Consents(**numbers, devices=b"\x03", signatures=bytes(128)),
        sums.UnmaskAnswer(**numbers, shares=bytes(48)),
    ]
    return [sums.encode(message) for message in said]


def _topic(data: bytes) -> None:
    Topics(_FEDERATION).device_of(_text(data))


# adapters -----------------------------------------------------------------------------------------------------------


@cache
def _start() -> Adapter:
    return beginning(initial_adapter(SLOTS, 4, 0), SLOTS, 4, 0)


def _part(data: bytes) -> None:
    """The first byte says which part is expected."""
    share = (Share.A, Share.B, Share.CORE, Share.A_ONLY)[data[0] % 4] if data else Share.A
    complete(data[1:], _start(), share)


@cache
def _updates() -> Updates:
    """A coordinator's books before the first round."""
    federation = config.parse('name = "a"\nslots = "impasto.json"', folder=_folder())
    return Updates(federation, config.BaseModel(BASE_ID, SLOTS), open_blobs(str(_folder() / "blobs")))


def _update(data: bytes) -> None:
    """The whole way of an update into a round; the first byte says which part of it is asked for."""
    share = (Share.BOTH, Share.A, Share.B, Share.A_ONLY)[data[0] % 4] if data else Share.BOTH
    _, norm = _updates().check(data[1:], Member(None, 4, None, 7, share))
    assert math.isfinite(norm), "or the round could not be closed"


def _adapters() -> list[bytes]:
    return [to_bytes(random_adapter(1, rank)) for rank in (1, 2)]


# files --------------------------------------------------------------------------------------------------------------


@cache
def _bundle_folder() -> Path:
    """A bundle but for its index: what an index has to name is there."""
    for name in _index_of({}).required:
        (_folder() / "bundle" / name).parent.mkdir(parents=True, exist_ok=True)
        (_folder() / "bundle" / name).write_bytes(b"x")
    return _folder() / "bundle"


def _bundle(data: bytes) -> None:
    (_bundle_folder() / "impasto.json").write_bytes(data)
    Bundle.load(_bundle_folder())


def _index_of(files: dict[str, str]) -> BundleIndex:
    slots = [Slot(name=name, in_features=i, out_features=o) for name, (i, o, _) in SLOTS.items()]
    return BundleIndex(
        base_id="0" * 64, image_size=32, size_step=8, vae_scale_factor=4, latent_channels=4, vae_scaling_factor=0.3,
        slots=slots, files=files,
    )  # fmt: skip


def _index() -> bytes:
    sha256 = hashlib.sha256(b"x").hexdigest()
    return msgspec.json.encode(_index_of(dict.fromkeys(_index_of({}).required, sha256)))


def _slots(data: bytes) -> None:
    federation = config.parse('name = "a"\nslots = "impasto.json"', folder=_file("slots/impasto.json", data).parent)
    config.read_base_model(federation.description)


def _keys(data: bytes) -> None:
    Keys(_file("home/keys.json", data).parent, _FEDERATION)


def _key_files() -> list[bytes]:
    said = msgspec.json.encode([_signer().succession(bytes(32))])
    private = msgspec.json.encode(bytes(range(32)))
    return [b'{"private":' + private + b',"successions":' + said + b"}"]


def _captions(data: bytes) -> None:
    _file("captions/fox.png", _pictures()[0])
    list_pictures(_file("captions/metadata.jsonl", data).parent)


def _picture(data: bytes) -> None:
    open_picture(_file("pictures/picture.png", data), 64)


def _pictures() -> list[bytes]:
    image = Image.effect_mandelbrot((8, 8), (-2.0, -1.5, 1.0, 1.5), 20).convert("RGBA")
    found = []
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
        file = io.BytesIO()
        image.convert("RGB" if kind == "JPEG" else "RGBA").save(file, kind)
        found.append(file.getvalue())
    return found


def _tokenizer(data: bytes) -> None:
    """Its three files, one after the other."""
    for name, content in zip(("tokenizer_config.json", "vocab.json", "merges.txt"), _records(data), strict=False):
        path = _file(f"tokenizer/{name}", content)
    if data:
        Tokenizer(path.parent).encode(["a fox"])


def _tokenizers() -> list[bytes]:
    words = {"a</w>": 0, "f": 1, "o": 2, "x</w>": 3, "fo": 4, "<|startoftext|>": 5, "<|endoftext|>": 6}
    return [_joined([b'{"model_max_length": 8}', msgspec.json.encode(words), b"#version: 0.2\nf o\n"])]


def _asked(data: bytes) -> object:
    """A message between a device and a helper; what an Ask holds is decoded too."""
    message = assist.decode(data)
    return assist.decode_drawing(message.drawing) if isinstance(message, assist.Ask) else message


def _asked_examples() -> list[bytes]:
    return [
        assist.encode(assist.Asker(bytes(32), _FEDERATION, "pi-4", "desk-1", bytes(32)).ask(drawing())),
        assist.encode(assist.Queued(request="a" * 64, position=2, seconds=3.5)),
        assist.encode(helper_state()),
    ]


_COURSE = Course(BASE_ID, "fp32", "0" * 16, "ddim", 25)
_DPM_COURSE = msgspec.structs.replace(_COURSE, scheduler="dpm++")
_LATENTS = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 4, 2, 2)
_STATE = DrawingState(_COURSE, 12, SolverState(_LATENTS))
_DPM_STATE = DrawingState(_DPM_COURSE, 12, SolverState(_LATENTS, _LATENTS))


def _state(data: bytes) -> object:
    """A drawing's state, read and checked as a device does before it goes on from it."""
    state = read_state(data)
    state.check(_DPM_COURSE if state.course.scheduler == "dpm++" else _COURSE, _LATENTS.shape, 1e4)
    return state


TARGETS: dict[str, Target] = {
    "message": Target(decode, lambda: [encode(example) for example in EXAMPLES]),
    "chunk": Target(_chunk, lambda: _CHUNKS),
    "exchange": Target(
        _exchange,
        lambda: [
            _joined([*_CHUNKS, encode(Pull(sha256=_MANIFEST.sha256, missing=b"\x07", credit=3))]),
            _joined([encode(Welcome(round=0, rounds=1)), *reversed(_CHUNKS)]),
        ],
    ),
    "sum": Target(sums.decode, _sums),
    "assist": Target(_asked, _asked_examples),
    "state": Target(_state, lambda: [_STATE.to_bytes(), _DPM_STATE.to_bytes()]),
    "signature": Target(_signed, _signed_examples),
    "invitation": Target(
        lambda data: read_invitation(_text(data)),
        lambda: [Invitation(_FEDERATION, "pi-4", bytes(32), bytes(16)).to_text().encode()],
    ),
    "fingerprint": Target(lambda data: read_fingerprint(_text(data)), lambda: [fingerprint(bytes(32)).encode()]),
    "topic": Target(_topic, lambda: [Topics(_FEDERATION).control("pi-4", "up").encode()]),
    "adapter": Target(from_bytes, _adapters),
    "part": Target(
        _part,
        lambda: [
            bytes([number]) + pack(random_adapter(1, 4), _start(), share)
            for number, share in enumerate((Share.A, Share.B, Share.CORE, Share.A_ONLY))
        ],
    ),
    "update": Target(
        _update,
        lambda: [
            bytes([number]) + pack(random_adapter(1, 4), beginning(None, SLOTS, 4, 7), share)
            for number, share in enumerate((Share.BOTH, Share.A, Share.B, Share.A_ONLY))
        ],
    ),
    "federation": Target(
        lambda data: config.load(_file("federation/federation.toml", data)),
        lambda: [
            FEDERATION.format(broker="mqtts://broker.example:8883", rounds=3, devices=6).encode(),
            config.template("stickers", "bundle", "mqtt://127.0.0.1:1883").encode(),
        ],
    ),
    "slots": Target(_slots, lambda: [_index()]),
    "bundle": Target(_bundle, lambda: [_index()]),
    "keys": Target(_keys, _key_files),
    "tokenizer": Target(_tokenizer, _tokenizers),
    "schedule": Target(
        NoiseSchedule.from_json, lambda: [b'{"beta_schedule": "scaled_linear"}', b'{"beta_end": 0.012}']
    ),
    "captions": Target(_captions, lambda: [b'{"file_name": "fox.png", "text": "a fox"}\n']),
    # A picture of 64 megapixels, on white, and its transposition.
    "picture": Target(_picture, _pictures, memory=1 << 30),
}
