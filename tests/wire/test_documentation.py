"""docs/protocol.md says what the code does: every message, every field, the examples, the numbers."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from edge_sdk.adapter import LAYER_SETS, LayerSet, in_layer_set
from edge_sdk.transport import DEFAULT_MAX_PAYLOAD, PACKET_MARGIN
from edge_sdk.wire import messages as m
from edge_sdk.wire.exchange import NOT_OFFERED
from edge_sdk.wire.signing import Greeter, Signer, recognised, verified
from edge_sdk.wire.transfer import DEFAULT_CHUNK, decode_chunk, make_manifest
from tests.wire.test_messages import EXAMPLES

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", PAGE, flags=re.MULTILINE | re.DOTALL))
DOCUMENTED: list[tuple[str, type[msgspec.Struct]]] = [
    ("manifest", m.Manifest),
    ("profile", m.DeviceProfile),
    ("succession", m.Succession),
    ("masking", m.Masking),
    ("guarantee", m.Guarantee),
    *((type(example).__name__.lower(), type(example)) for example in EXAMPLES),
]


def test_every_message_is_described_and_no_other() -> None:
    assert set(SECTIONS) == {name for name, _ in DOCUMENTED}


@pytest.mark.parametrize(("name", "kind"), DOCUMENTED)
def test_every_field_is_described_in_order_and_optional_ones_are_marked(name: str, kind: type[msgspec.Struct]) -> None:
    described = re.findall(r"^\| `(\w+)`( \?)? \|", SECTIONS[name], flags=re.MULTILINE)
    actual = [(field.name, " ?" if not field.required else "") for field in msgspec.structs.fields(kind)]
    assert described == [field for field in actual if field[0] != "version"]


def example(label: str) -> bytes:
    found = re.search(rf"```hex {label}\n(.*?)```", PAGE, flags=re.DOTALL)
    assert found
    return bytes.fromhex("".join(found[1].split()))


def test_the_examples() -> None:
    assert m.decode(example("presence")) == m.Presence(online=True, epoch=3)
    manifest = make_manifest(bytes(range(256)) * 10, "update", "x", chunk_size=1024)
    assert m.decode(example("pull")) == m.Pull(sha256=manifest.sha256, missing=b"\x05", credit=2)
    chunk = decode_chunk(example("chunk"))
    assert (chunk.sha256, chunk.index, bytes(chunk.data)) == (manifest.sha256, 2, bytes(range(4)))


def test_the_examples_of_signatures() -> None:
    signer = Signer(bytes(range(32)), "tastes")
    assert signer.public.hex() in PAGE
    said = m.decode(example("signedstep"))
    assert isinstance(said, m.SignedStep)
    step = verified(said, signer.public, "tastes", "pi-4")
    assert (said.epoch, step) == (7, m.Finished(rounds=3, cluster=0, adapters=[]))
    state = m.decode(example("coordinatorstate"))
    assert isinstance(state, m.CoordinatorState)
    assert (state.online, state.epoch, state.base_id, state.level) == (True, 7, "b1", "coarse")
    for pinned in (signer.public, Signer(bytes(32), "tastes").public):
        assert recognised(pinned, state, "tastes") == signer.public


def test_the_example_of_a_hello() -> None:
    greeter = Greeter(bytes(range(32)), "tastes", "pi-4")
    profile = m.DeviceProfile(
        base_id="b1",
        prompt_code=bytes(range(16)),
        pictures=12,
        max_rank=8,
        capabilities={"cpu": "x86"},
        key=greeter.public,
        level="coarse",
        basis=bytes(32),
    )
    data = example("hello")
    assert m.decode(data) == greeter.hello(profile, 7, 3)
    assert f"it has {len(data)} bytes" in PAGE


@pytest.mark.parametrize("which", LAYER_SETS)
def test_the_layers_of_an_update_are_those_of_its_set(which: LayerSet) -> None:
    (row,) = re.findall(r"^\| layers \| .*$", PAGE, flags=re.MULTILINE)
    assert f'`"{which}"`: ' in row
    for name, smallest in {
        "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k": "attention",
        "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0": "attention",
        "unet.mid_block.attentions.0.proj_in": "transformer",
        "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.2": "transformer",
        "unet.conv_in": "all",
    }.items():
        assert in_layer_set(name, which) is (LAYER_SETS.index(which) >= LAYER_SETS.index(smallest))


def test_the_numbers() -> None:
    for number in (DEFAULT_MAX_PAYLOAD + PACKET_MARGIN, m.MAX_MESSAGE, m.MAX_CHUNK, DEFAULT_CHUNK, m.MAX_CHUNKS // 8):
        assert str(number) in PAGE
    assert max(m.MAX_MESSAGE, m.MAX_CHUNK) == DEFAULT_MAX_PAYLOAD
    assert f"`{NOT_OFFERED}`" in PAGE
