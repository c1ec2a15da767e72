"""Statements of docs/protocol.md about peers, tested by a hand-written device on a real coordinator and Mosquitto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec.msgpack as msgpack
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save

from tests.contract.peer import Message, Peer, products
from tests.integration.coordinators import Coordinator
from tests.transport.brokers import Mosquitto

INDEX = {
    "base_id": "c" * 64,
    "prompt_basis": {"id": "d" * 64},
    "image_encoder": {"id": "e" * 64, "dimensions": 5},
    "slots": [
        {"name": "unet.mid.attn1.to_q", "in_features": 20, "out_features": 24},
        {"name": "unet.mid.attn2.to_k", "in_features": 16, "out_features": 24},
        {"name": "unet.mid.ff.net.2", "in_features": 24, "out_features": 20},
    ],
}
FILE = """
name = "peers"
broker = "{broker}"
slots = "impasto.json"
min_devices = {devices}
rounds = {rounds}
rank = 4
aggregation = {{server_rank = 16}}
deadline = 600
grace = 30
clustering = {{method = "single"}}
interaction = {{method = "none"}}
"""


PLAIN = 'privacy = "plain"\nallow_plain = true\n'


class World:
    """A broker, a coordinator, and peers."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.broker = stack.enter_context(Mosquitto(folder))
        (folder / "impasto.json").write_text(json.dumps(INDEX))

    def serve(self, devices: int, rounds: int = 2, more: str = "", *, once: bool = False) -> Coordinator:
        text = FILE.format(broker=self.broker.url, devices=devices, rounds=rounds)
        for line in filter(None, more.splitlines()):
            key = line.split(" = ")[0]
            text = "".join(row + "\n" for row in text.splitlines() if not row.startswith(f"{key} ="))
        (self.folder / "peers.toml").write_text(text + more)
        coordinator = Coordinator(self.folder / "peers.toml", once=once)
        coordinator.wait_for("coordinator_started")
        if not once:
            self._stack.callback(coordinator.stop)
        return coordinator

    def peer(self, name: str, **given: Any) -> Peer:
        peer = Peer(self.broker.port, "peers", name, INDEX, **given)
        self._stack.callback(peer.close)
        return peer

    def started(self, *names: str, **given: Any) -> tuple[list[Peer], list[Message]]:
        """Peers that have joined, and their round starts."""
        peers = [self.peer(name, **given) for name in names]
        for peer in peers:
            peer.join()
        return peers, [peer.hear("roundstart") for peer in peers]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack)


class TestJoining:
    def test_a_code_is_of_the_level_that_the_state_asks_for(self, world: World) -> None:
        world.serve(2)
        peer = world.peer("a")
        assert peer.hear("coordinatorstate")["level"] == "coarse"
        wrong = {
            "PrivacyLevelMismatch": [{"level": "plain"}, {"level": "local", "basis": b""}],
            "PromptBasisMismatch": [{"basis": b""}, {"basis": bytes(32)}],
            "PromptCodeMismatch": [{"prompt_code": bytes(15)}, {"prompt_code": bytes(17)}, {"prompt_code": bytes(64)}],
        }
        for code, profiles in wrong.items():
            for changes in profiles:
                peer.join(**changes)
                refused = peer.hear("refused")
                assert (refused["code"], refused["about"]) == (code, "join")
        assert "those of this federation have 16" in refused["reason"]
        peer.join()
        peer.hear("welcome")

    def test_a_device_of_an_earlier_version_hears_what_to_do(self, world: World) -> None:
        """It states no level, and sends its mean embedding."""
        world.serve(2)
        peer = world.peer("a", prompt_code=np.ones(16, "<f4").tobytes())
        del peer.profile["level"], peer.profile["basis"]
        peer.join()
        refused = peer.hear("refused")
        assert refused["code"] == "PrivacyLevelMismatch"
        assert "takes codes of level 'coarse', the device sent those of level 'plain'" in refused["reason"]
        assert "An SDK of an earlier version sends 'plain' only: update it" in refused["reason"]

    def test_a_plain_code_has_as_many_numbers_as_the_condition_is_wide(self, world: World) -> None:
        world.serve(2, more=PLAIN)
        peer = world.peer("a", level="plain", basis=b"")
        for code in (bytes(4), bytes(60), bytes(4 * 17)):
            peer.join(prompt_code=code)
            refused = peer.hear("refused")
            assert (refused["code"], refused["about"]) == ("PromptCodeMismatch", "join")
            assert "have 64" in refused["reason"]
        peer.join(prompt_code=bytes(64))
        peer.hear("welcome")

    def test_or_as_many_as_the_file_says(self, world: World) -> None:
        world.serve(2, more=f"{PLAIN}code_dimensions = 3\n")
        peer = world.peer("a", level="plain", basis=b"")
        peer.join(prompt_code=bytes(64))
        assert peer.hear("refused")["code"] == "PromptCodeMismatch"
        peer.join(prompt_code=bytes(12))
        peer.hear("welcome")

    @pytest.mark.parametrize(("more", "size"), [("", 5), (PLAIN, 20)], ids=["coarse", "plain"])
    def test_a_picture_code_is_empty_or_that_of_the_federations_encoder(
        self, world: World, more: str, size: int
    ) -> None:
        world.serve(2, more=more)
        peer = world.peer("a", **({"level": "plain", "basis": b"", "prompt_code": bytes(64)} if more else {}))
        ours = bytes.fromhex("e" * 64)
        wrong = {
            "PictureEncoderMismatch": [(bytes(size), b""), (bytes(size), bytes(32))],
            "PictureCodeMismatch": [(bytes(size - 4 if more else size - 1), ours), (bytes(24), ours)],
        }
        for code, changes in wrong.items():
            for pictured, encoder in changes:
                peer.join(picture_code=pictured, picture_encoder=encoder)
                refused = peer.hear("refused")
                assert (refused["code"], refused["about"]) == (code, "join")
        assert f"have {size}" in refused["reason"]
        for pictured in (b"", bytes(size)):
            peer.join(picture_code=pictured, picture_encoder=ours if pictured else b"")
            peer.hear("welcome")

    def test_a_malformed_join_gets_silence_until_the_device_has_joined(self, world: World) -> None:
        world.serve(2)
        peer = world.peer("a")
        no_number = {"level": "plain", "basis": b"", "prompt_code": b"\xff" * 64}
        for changes in (
            {"pictures": 0},
            {"more": 1},
            no_number,
            {"max_rank": 2000},
            {"level": "?"},
            {"basis": b"1"},
            {"picture_encoder": b"1"},
        ):
            peer.join(**changes)
        peer.join()
        peer.hear("welcome")
        assert {message["type"] for message in peer.passed} <= {"coordinatorstate"}
        peer.join(pictures=0)
        assert peer.hear("refused", code="MessageInvalid")["about"] == ""

    def test_presence_is_not_needed(self, world: World) -> None:
        coordinator = world.serve(2, rounds=1)
        peers, starts = world.started("a", "b", presence=False)
        for number, (peer, start) in enumerate(zip(peers, starts, strict=True)):
            peer.offer(start, peer.update(number))
        assert [peer.hear("rounddone")["accepted"] for peer in peers] == [True, True]
        assert coordinator.named("refused") == []

    def test_a_birth_counts_whatever_its_epoch_and_a_death_of_an_older_one_does_not(self, world: World) -> None:
        coordinator = world.serve(3)
        peer = world.peer("a")
        peer.show(epoch=2**31 - 1)
        peer.join()
        peer.hear("welcome")
        peer.show(epoch=5)
        peer.show(online=False, epoch=4)
        peer.join()
        peer.hear("welcome")
        assert coordinator.service.state.devices["a"].until is None
        peer.show(online=False, epoch=5)
        assert peer.hear("refused")["code"] == "PresenceLost"
        assert coordinator.named("device_offline")


class TestHello:
    """Peers that never say it are in all other tests."""

    def test_is_answered_as_the_page_says(self, world: World) -> None:
        coordinator = world.serve(2, rounds=1)
        own = Ed25519PrivateKey.generate()
        peer = world.peer("a", key=own.public_key().public_bytes_raw(), capabilities={"z": "1", "cpu": "x86"})
        peer.hello(own, 1)
        refused = peer.hear("refused")
        assert (refused["code"], refused["about"]) == ("JoinNeeded", "hello")
        peer.join()
        peer.hear("welcome")
        peer.hello(own, 2)
        assert peer.hear("welcome")["round"] == 0
        assert [message["type"] for message in peer.passed] == []
        peer.hello(Ed25519PrivateKey.generate(), 3)
        assert peer.hear("refused")["code"] == "JoinNeeded"
        other = world.peer("b")
        other.join()
        start = peer.hear("roundstart")
        peer.hello(own, 4)
        assert peer.hear("roundstart", attempt=start["attempt"])["round"] == 1
        for number, member in enumerate((peer, other)):
            member.hear("committed", sha256=member.offer(start, member.update(number)))
        peer.hear("finished")
        peer.said_meanwhile()
        peer.hello(own, 5)
        for manifest in peer.hear("finished")["adapters"]:
            peer.fetch(manifest)
        coordinator.wait_for("adapter_delivered")
        peer.said_meanwhile()
        peer.hello(own, 6)
        peer.hear("welcome")
        peer.say("leave")
        peer.hello(own, 7)
        assert peer.hear("refused")["code"] == "JoinNeeded"
        assert "finished" not in {message["type"] for message in peer.passed}


class TestUpdates:
    def test_the_mean_is_what_a_peer_computes_from_what_it_was_told(self, world: World) -> None:
        """Weights are the pictures of the offers, not those of the profiles, none above four times their median."""
        world.serve(4, rounds=1)
        names = ("a", "b", "c", "liar")
        peers = [world.peer(name, pictures=1000 - number) for number, name in enumerate(names)]
        for peer in peers:
            peer.join()
        claimed = {"a": 10, "b": 20, "c": 30, "liar": 2**31 - 1}
        updates = {peer.device: peer.update(number) for number, peer in enumerate(peers)}
        for peer in peers:
            peer.offer(peer.hear("roundstart"), updates[peer.device], pictures=claimed[peer.device])
        weights = {name: min(count, 4 * 25) for name, count in claimed.items()}
        made = peers[0].products(peers[0].hear("finished")["adapters"][0])
        assert made.keys() == {"unet.mid.attn1.to_q", "unet.mid.attn2.to_k"}
        for layer, product in made.items():
            own = sum(w * products(updates[n])[layer] for n, w in weights.items()) / sum(weights.values())
            assert np.abs(product - own).max() < 4e-7 * np.abs(own).max()

    def test_of_two_the_larger_weight_is_at_most_four_times_the_other(self, world: World) -> None:
        world.serve(2, rounds=1)
        peers, starts = world.started("a", "liar")
        updates = [peer.update(number) for number, peer in enumerate(peers)]
        for peer, start, update, pictures in zip(peers, starts, updates, (10, 2**31 - 1), strict=True):
            peer.offer(start, update, pictures=pictures)
        made = peers[0].products(peers[0].hear("finished")["adapters"][0])
        for layer, product in made.items():
            own = (10 * products(updates[0])[layer] + 40 * products(updates[1])[layer]) / 50
            assert np.abs(product - own).max() < 4e-7 * np.abs(own).max()

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ("a layer too few", "AdapterMismatch"),
            ("a layer that devices do not train", "AdapterMismatch"),
            ("a layer that the base does not have", "AdapterMismatch"),
            ("a rank above the round's", "AdapterMismatch"),
            ("another base", "AdapterMismatch"),
            ("other shapes", "AdapterMismatch"),
            ("NaN", "AdapterValueError"),
            ("above 10000", "AdapterValueError"),
            ("integers", "AdapterFormatError"),
            ("A without B", "AdapterFormatError"),
            ("no safetensors", "AdapterFormatError"),
        ],
    )
    def test_what_is_refused_for_its_content_uses_up_the_round(self, world: World, change: str, code: str) -> None:
        world.serve(2)
        (peer, other), (start, _) = world.started("a", "b")
        tensors: dict[str, Any] = peer.update(1)
        first, base_id = "unet.mid.attn1.to_q.lora_A.weight", ""
        if change == "a layer too few":
            tensors = {key: value for key, value in tensors.items() if "attn2" not in key}
        elif change.startswith("a layer that"):
            name = "unet.mid.ff.net.2" if "train" in change else "unet.up.attn1.to_q"
            tensors[f"{name}.lora_A.weight"] = np.ones((4, 24), np.float32)
            tensors[f"{name}.lora_B.weight"] = np.ones((20, 4), np.float32)
        elif change == "a rank above the round's":
            tensors = peer.update(1, rank=5)
        elif change == "another base":
            base_id = "d" * 64
        elif change == "other shapes":
            tensors[first] = np.ones((4, 21), np.float32)
        elif change == "integers":
            tensors[first] = np.ones((4, 20), np.int32)
        elif change == "A without B":
            del tensors[first]
        else:
            tensors[first] = np.full((4, 20), float("nan") if change == "NaN" else 10001, np.float32)
        if change == "no safetensors":
            sha256 = peer.offer_bytes(start, b"not an adapter")
        else:
            sha256 = peer.offer(start, tensors, base_id=base_id)
        assert peer.hear("refused", about=sha256)["code"] == code
        again = peer.offer(start, peer.update(2))
        assert peer.hear("refused", about=again)["code"] == "DuplicateUpdate"
        other.offer(start, other.update(3))
        done = peer.hear("rounddone")
        assert (done["accepted"], done["updates"]) == (False, 1)
        assert other.hear("rounddone")["accepted"]

    @pytest.mark.parametrize(
        "change", ["half", "double", "no base id", "smaller ranks", "mixed ranks", "more metadata"]
    )
    def test_what_is_taken_as_well(self, world: World, change: str) -> None:
        world.serve(1, rounds=1)
        (peer,), (start,) = world.started("a")
        tensors = peer.update(1, rank=2 if change == "smaller ranks" else 4)
        if change in ("half", "double"):
            tensors = {k: t.astype(np.float16 if change == "half" else np.float64) for k, t in tensors.items()}
        if change == "mixed ranks":
            tensors |= {key: tensor for key, tensor in peer.update(2, rank=1).items() if "attn2" in key}
        if change == "more metadata":
            data = save(tensors, {"impasto.base_id": INDEX["base_id"], "mine": "yes"})
            sha256 = peer.offer_bytes(start, data)
        else:
            sha256 = peer.offer(start, tensors, base_id=None if change == "no base id" else "")
        assert peer.hear("committed")["sha256"] == sha256

    def test_what_does_not_belong_or_does_not_come_does_not_use_up_the_round(self, world: World) -> None:
        world.serve(2)
        (peer, _), (start, _) = world.started("a", "b")
        wrong: list[tuple[str, Message, Message]] = [
            ("FutureUpdate", {"round": 2}, {}),
            ("OtherAttempt", {"attempt": 7}, {}),
            ("OfferInvalid", {}, {"role": "root"}),
            ("UpdateTooLarge", {}, {"size": 10**6}),
            ("TransferError", {}, {"sha256": "a" * 64}),
        ]
        for code, changes, manifest in wrong:
            sha256 = peer.offer(start, peer.update(1), manifest=manifest, **changes)
            assert peer.hear("refused", about=sha256)["code"] == code
        assert peer.asked["a" * 64] == 3, "a content with a wrong hash is pulled three times"
        sha256 = peer.offer(start, peer.update(1))
        assert peer.hear("committed")["sha256"] == sha256

    def test_transfer_error_is_about_a_content_or_a_single_chunk(self, world: World) -> None:
        world.serve(2)
        (peer, _), (start, _) = world.started("a", "b")
        sha256 = peer.offer(start, peer.update(1), manifest={"sha256": "b" * 64, "chunk_size": 2048})
        peer.hear("refused", about=sha256, code="TransferError")
        peer.publish(f"{peer.root}/up/chunk", b"too short")
        peer.hear("refused", code="TransferError", about="")


class TestRounds:
    def test_a_roundstart_is_repeated_to_whoever_joins_and_has_not_delivered(self, world: World) -> None:
        world.serve(2)
        (peer, other), (start, _) = world.started("a", "b")
        peer.join()
        again = peer.hear("roundstart")
        assert again.pop("deadline") <= start["deadline"]
        assert again == {key: value for key, value in start.items() if key != "deadline"}
        sha256 = peer.offer(start, peer.update(1))
        peer.hear("committed", sha256=sha256)
        peer.join()
        peer.hear("welcome")
        other.join()
        other.hear("roundstart")
        assert "roundstart" not in {message["type"] for message in peer.said_meanwhile()}

    def test_what_is_sent_after_leave(self, world: World) -> None:
        """It gets a question, answers to its own messages, and the end of the round that it was in."""
        world.serve(2)
        (peer, other), (start, _) = world.started("a", "b")
        sha256 = peer.offer(start, peer.update(1))
        peer.hear("committed", sha256=sha256)
        peer.say("leave")
        question = peer.hear("refused")
        assert (question["code"], question["about"]) == ("HasLeft", "leave")
        other.offer(start, other.update(2))
        assert peer.hear("rounddone")["accepted"], "it had delivered"
        other.hear("rounddone")
        peer.say("pull", sha256="e" * 64, missing=b"\x01", credit=1)
        refused = peer.hear("refused")
        assert (refused["code"], refused["about"]) == ("HasLeft", "e" * 64)
        assert peer.said_meanwhile() == []
        peer.say("nonsense")
        assert peer.hear("refused")["code"] == "MessageInvalid"
        peer.join()
        peer.hear("welcome")

    def test_after_finished(self, world: World) -> None:
        """Every device that joins gets it again, newcomers too. A coordinator that serves once ends when all devices
        have all adapters, though they stay connected."""
        coordinator = world.serve(2, rounds=1, more="", once=True)
        (peer, other), (start, _) = world.started("a", "b")
        peer.offer(start, peer.update(1))
        other.offer(start, other.update(2))
        finished = peer.hear("finished")
        peer.join()
        assert peer.hear("finished") == finished
        offered = peer.offer(start, peer.update(5))
        assert peer.hear("refused", about=offered)["code"] == "StaleUpdate"
        for each in (peer, other):
            for manifest in finished["adapters"]:
                each.fetch(manifest)
        coordinator.join()

    def test_a_forged_death_and_a_forged_leave_cost_a_device_that_contradicts_nothing(self, world: World) -> None:
        world.serve(2, rounds=2, more="grace = 5\n")
        (peer, other), starts = world.started("a", "b")
        for number in (1, 2):
            peer.publish(f"{peer.root}/state", _forged("presence", online=False, epoch=2**31 - 1), retain=True)
            peer.hear("refused", code="PresenceLost")
            peer.show()
            peer.publish(f"{peer.root}/up/control", _forged("leave"))
            peer.hear("refused", code="HasLeft")
            peer.join()
            peer.hear("welcome")
            other.offer(starts[1], other.update(number))
            other.hear("committed")
            sha256 = peer.offer(starts[0], peer.update(10 + number))
            peer.hear("committed", sha256=sha256)
            assert peer.hear("rounddone", round=number)["accepted"]
            if number == 1:
                starts = [peer.hear("roundstart", round=2), other.hear("roundstart", round=2)]

    def test_one_that_is_presumed_dead_and_offers_is_heard(self, world: World) -> None:
        """It does not contradict its death; its offer shows that it lives."""
        world.serve(2, rounds=1, more="grace = 1\n")
        (peer, other), (start, _) = world.started("a", "b")
        peer.show(online=False, epoch=1)
        peer.hear("refused", code="PresenceLost")
        sha256 = peer.offer(start, peer.update(1))
        peer.hear("committed", sha256=sha256)
        other.offer(start, other.update(2))
        done = peer.hear("rounddone")
        assert (done["accepted"], done["updates"]) == (True, 2)

    def test_names_that_never_show_presence_do_not_hold_a_round_up(self, world: World) -> None:
        """The deadline is ten minutes away."""
        coordinator = world.serve(3, rounds=1, more="grace = 2\n")
        peers = [world.peer("a"), world.peer("b")]
        for peer in peers:
            peer.join()
            peer.hear("welcome")
        for number in range(20):
            control = f"impasto/1/peers/dev/made-up-{number}/up/control"
            peers[0].publish(control, _forged("join", profile=peers[0].profile))
        starts = [peer.hear("roundstart") for peer in peers]
        assert coordinator.named("round_started")[0]["cohort"] == ["a", "b", "made-up-0"]
        for peer, start in zip(peers, starts, strict=True):
            peer.offer(start, peer.update(1))
        assert [peer.hear("rounddone")["updates"] for peer in peers] == [2, 2]

    def test_a_death_that_the_broker_could_not_tell(self, world: World) -> None:
        """The deadline is ten minutes away."""
        coordinator = world.serve(3, rounds=1, more="grace = 2\n")
        peers, starts = world.started("a", "b", "gone")
        world.broker.stop(kill=True)
        peers[2].close()
        world.broker.start()
        coordinator.wait_for("broker_back")
        for name, start in zip(("a", "b"), starts, strict=False):
            peer = world.peer(name)
            peer.join()
            peer.hear("committed", sha256=peer.offer(start, peer.update(1)))
        assert peer.hear("rounddone")["updates"] == 2

    def test_a_round_begins_with_those_who_are_there(self, world: World) -> None:
        """A device that has been away for longer than `grace` is not in it, and takes part in the next one."""
        coordinator = world.serve(3, rounds=3, more="grace = 1\n")
        peers, starts = world.started("a", "b", "c")
        peers[2].show(online=False)
        peers[2].hear("refused", code="PresenceLost")
        for number in (1, 2):
            for peer, start in zip(peers[:2], starts, strict=False):
                peer.hear("committed", sha256=peer.offer(start, peer.update(number)))
            starts = [peer.hear("roundstart", round=number + 1) for peer in peers[:2]]
            if number == 1:
                assert coordinator.named("round_started")[1]["cohort"] == ["a", "b"]
                peers[2].said_meanwhile()
                peers[2].show()
                peers[2].join()
                assert peers[2].hear("welcome")["round"] == 1
        assert peers[2].hear("roundstart")["round"] == 3
        assert coordinator.named("round_started")[2]["cohort"] == ["a", "b", "c"]

    def test_who_has_joined_without_an_invitation_is_refused_where_it_is_asked_for_later(self, world: World) -> None:
        first = world.serve(1, once=True)
        (peer,), (start,) = world.started("a")
        first.service.stop()
        first.join()
        world.serve(1, more='join = "invited"\n')
        sha256 = peer.offer(start, peer.update(1))
        assert peer.hear("refused", about=sha256)["code"] == "NotInvited"
        peer.join()
        assert peer.hear("refused", about="join")["code"] == "NotInvited"

    def test_a_device_that_went_away_is_waited_for_during_grace_and_no_longer(self, world: World) -> None:
        """Nothing is said meanwhile, and the deadline is ten minutes away."""
        world.serve(3, rounds=1, more="grace = 1\n")
        peers, starts = world.started("a", "b", "gone")
        for peer, start in zip(peers[:2], starts, strict=False):
            peer.hear("committed", sha256=peer.offer(start, peer.update(1)))
        peers[2].show(online=False)
        assert peers[0].hear("rounddone")["updates"] == 2


def _forged(kind: str, **fields: Any) -> bytes:
    return msgpack.encode({"type": kind, **fields})
