from __future__ import annotations

import json
import logging
import shutil
import threading
from base64 import b64decode, b64encode, urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coordinator.config import parse
from coordinator.server.service import Service
from edge_sdk import Device
from edge_sdk import adapter as adapters
from edge_sdk.adapter import Adapter, Factors, Share
from edge_sdk.device.home import Home
from edge_sdk.device.prior import CAPTIONS, PriorNotDrawn, prior_pictures
from edge_sdk.errors import (
    AdapterError,
    AdapterMismatch,
    BundleMissing,
    ConfigurationError,
    DeviceBusy,
    ImpastoError,
    MessageInvalid,
    NoPictures,
    NoRoomToPrepare,
    PromptError,
    TrainingError,
    UnknownFederation,
)
from edge_sdk.inference import Generator
from edge_sdk.membership import RoundPlan, runner
from edge_sdk.membership.journal import read_own_key
from edge_sdk.pictures import PictureLeftOut, list_pictures, load_pictures
from edge_sdk.pictures import folder as folder_
from edge_sdk.secure_aggregation import vector_of
from edge_sdk.training import Trainer, TrainingPutAside
from edge_sdk.transport import connect
from edge_sdk.transport.embedded import EmbeddedBroker
from edge_sdk.wire import DeviceProfile, Masking, TrainingStats
from edge_sdk.wire.messages import Join, Message, decode
from tests.models import EMBEDDING, picture_bundle, tiny_bundle, tiny_model, write_model
from tests.training.samples import squares, write_squares

FEDERATION = """
name = "squares"
broker = "{broker}"
bundle = "{bundle}"
min_devices = 1
rounds = 2
root_rounds = 1
quorum = 1.0
deadline = 120.0
rank = 4
steps = 2
learning_rate = 3e-3
[clustering]
clusters = 1
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("pictures"), 8)


@pytest.fixture
def device(pictures: Path, tmp_path: Path) -> Device:
    return Device(tiny_bundle(), model=tiny_model(), pictures=pictures, home=tmp_path / "home", threads=1)


def drawing(device: Device, **options: Any) -> np.ndarray[Any, Any]:
    return np.asarray(device.generate("a red square", seed=1, steps=2, **options))


def test_it_draws_at_once(device: Device) -> None:
    picture = device.generate("a red square", seed=1, steps=2)
    assert isinstance(picture, Image.Image)
    assert picture.size == (32, 32)
    assert not device.home.exists(), "drawing leaves nothing behind"


def test_what_it_learns_changes_what_it_draws(device: Device) -> None:
    before = drawing(device)
    result = device.learn(steps=10, learning_rate=1e-2)
    assert list(device.adapters) == ["leaf"]
    assert sorted(path.name for path in device.home.iterdir()) == ["leaf.lock", "leaf.safetensors", "prior"]
    assert adapters.to_bytes(device.adapter("leaf")) == adapters.to_bytes(result.adapter)
    with_leaf = drawing(device)
    assert not np.array_equal(with_leaf, before)
    assert np.array_equal(drawing(device, adapters={"leaf": 1.0}), with_leaf)
    assert np.array_equal(drawing(device, adapters={}), before)
    assert np.array_equal(drawing(device, hybrid="guide"), with_leaf)
    adapters.save(adapters.scale(result.adapter, -1.0), device.home / "cluster.safetensors")
    both = {"leaf": 1.0, "cluster": 1.0}
    assert not np.array_equal(drawing(device, adapters=both, hybrid="switch"), drawing(device, adapters=both))


def test_prior_pictures_are_drawn_once(device: Device) -> None:
    device.learn(steps=1)
    folder = device.home / "prior" / device.generator.base_id[:16]
    drawn = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert sorted(drawn) == [f"{number:02d}.png" for number in range(len(CAPTIONS))]
    times = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    (folder / "03.png").write_bytes(b"damaged")
    device.learn(steps=1)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == drawn
    changed = {file.name for file in folder.iterdir() if file.stat().st_mtime_ns != times[file.name]}
    assert changed == {"03.png"}


def test_prior_pictures_leave_no_graph_in_memory(device: Device) -> None:
    device.learn(steps=1)
    assert device.generator._stages.opened == ()


def test_a_device_that_cannot_draw_can_learn(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any, **named: Any) -> Any:
        raise NoRoomToPrepare("There is no room for prepared graphs.")

    monkeypatch.setattr(Generator, "generate", full)
    with pytest.warns(PriorNotDrawn, match="no room for prepared graphs"):
        assert device.learn(steps=1).steps == 1
    assert "leaf" in device.adapters


def test_prior_pictures_take_no_longer_than_they_may(device: Device, tmp_path: Path) -> None:
    assert prior_pictures(device.generator, tmp_path / "prior", 0.0) == []
    assert not (tmp_path / "prior").exists()
    device.learn(steps=1, guard=False)
    assert not (device.home / "prior").exists()


def test_a_picture_that_takes_too_long_is_not_begun_at_every_call(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    whole = Generator.generate

    def slowly(self: Generator, prompt: str, **options: Any) -> list[Image.Image]:
        drawn.append(prompt)
        now[0] += 10.0
        return whole(self, prompt, **options)

    now = [0.0]
    monkeypatch.setattr(Generator, "generate", slowly)
    monkeypatch.setattr("edge_sdk.device.prior.time.monotonic", lambda: now[0])
    for seconds, begun in ((5.0, 1), (5.0, 1), (4.0, 1), (15.0, 2), (15.0, 3), (25.0, 5), (1000.0, 1 + len(CAPTIONS))):
        found = prior_pictures(device.generator, tmp_path, seconds)
        assert len(drawn) == begun
    assert [one.text for one in found] == list(CAPTIONS)


def test_a_picture_that_had_the_rest_of_the_time_is_begun_again_with_all_of_it(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, drawn = Generator.generate, []

    def slowly(self: Generator, prompt: str, **options: Any) -> list[Image.Image]:
        drawn.append(prompt)
        now[0] += 10.0 if prompt == CAPTIONS[0] else 40.0  # the board throttles
        return whole(self, prompt, **options)

    now = [0.0]
    monkeypatch.setattr(Generator, "generate", slowly)
    monkeypatch.setattr("edge_sdk.device.prior.time.monotonic", lambda: now[0])
    assert [len(prior_pictures(device.generator, tmp_path, 45.0)) for _ in range(3)] == [1, 2, 3]
    assert drawn == [CAPTIONS[0], CAPTIONS[1], CAPTIONS[1], CAPTIONS[2]]


def test_weights_are_chosen_by_pictures_that_were_not_trained_on(device: Device, tmp_path: Path) -> None:
    device.pictures = write_squares(tmp_path / "many", 24)
    leaf = device.learn(steps=30, learning_rate=1e-2).adapter
    assert device.weights["leaf"] > 0
    # What a federation brings may also harm.
    adapters.save(adapters.scale(leaf, -3.0), device.home / "cluster.safetensors")
    assert device.weights == {"cluster": 1.0, "leaf": 1.0}, "nothing is chosen yet"
    drawn_before = drawing(device)
    chosen = device.choose_weights()
    assert chosen == device.weights == {"cluster": 0.0, "leaf": 1.0}
    assert np.array_equal(drawing(device), drawing(device, adapters=chosen))
    assert not np.array_equal(drawing(device), drawn_before)
    adapters.save(adapters.scale(leaf, 0.5), device.home / "cluster.safetensors")
    assert device.weights == {"cluster": 1.0, "leaf": 1.0}, "they were chosen for another adapter"
    (device.home / "weights.json").write_bytes(b"{")
    assert device.weights == {"cluster": 1.0, "leaf": 1.0}


def test_without_a_guard_all_pictures_are_trained_on(device: Device, tmp_path: Path) -> None:
    device.pictures = write_squares(tmp_path / "many", 24)
    assert device.learn(steps=1).stats.pictures == 21
    leaf = device.learn(steps=1, guard=False)
    assert leaf.stats.pictures == 24
    assert adapters.to_bytes(device.adapter("leaf")) == adapters.to_bytes(leaf.adapter)
    # Pictures that a leaf knows do not choose its weight, nor after a guarded training that goes on from it.
    adapters.save(adapters.scale(leaf.adapter, -3.0), device.home / "cluster.safetensors")
    for again in (False, True):
        if again:
            assert device.learn(steps=1).stats.pictures == 21
        assert device.choose_weights() == device.weights == {"cluster": 1.0, "leaf": 1.0}
    device.learn(steps=1, afresh=True)
    device.choose_weights()
    assert (device.home / "weights.json").exists()


def test_a_few_pictures_choose_no_weights(device: Device) -> None:
    device.learn(steps=1)
    assert device.choose_weights() == {"leaf": 1.0}
    assert not (device.home / "weights.json").exists()


def test_its_loss_says_what_it_has_learnt(device: Device, tmp_path: Path) -> None:
    held_out = write_squares(tmp_path / "held_out", 3)
    base = {"own": device.evaluate(), "held out": device.evaluate(held_out)}
    trainer, taken = device.trainer, []
    result = device.learn(steps=10, learning_rate=1e-2, on_step=lambda progress: taken.append(progress.adapter()))
    assert adapters.to_bytes(taken[-1]) == adapters.to_bytes(result.adapter)
    assert len({adapters.to_bytes(adapter) for adapter in taken}) == 10
    assert device.evaluate() < base["own"]
    assert device.evaluate() == device.evaluate(adapters={"leaf": 1.0}) == device.evaluate(adapters=[(taken[-1], 1.0)])
    assert device.evaluate(held_out, adapters={}) == base["held out"] != base["own"]
    assert device.trainer is trainer, "it stays open"
    assert device._new_trainer()[0]._unet is trainer._unet
    assert device._new_trainer()[0]._pictures is trainer._pictures, "not encoded again"
    del device.trainer
    assert device._new_trainer()[0]._unet is not trainer._unet
    with pytest.raises(AdapterError, match="cluster"):
        device.evaluate(adapters={"cluster": 1.0})


def test_it_draws_with_adapters_from_anywhere(device: Device) -> None:
    leaf = device.learn(steps=5, learning_rate=1e-2).adapter
    assert np.array_equal(drawing(device, adapters=[(leaf, 0.5)]), drawing(device, adapters={"leaf": 0.5}))
    assert np.array_equal(drawing(device, adapters=[]), drawing(device, adapters={}))


def test_learning_goes_on_from_the_leaf_unless_asked_afresh(device: Device) -> None:
    first = device.learn(steps=2).adapter
    second = device.learn(steps=2).adapter
    assert adapters.distance(first, second) > 1e-3
    assert adapters.to_bytes(device.learn(steps=2, afresh=True).adapter) == adapters.to_bytes(first)


def test_interrupted_learning_is_resumed(device: Device) -> None:
    class PowerCutError(Exception):
        pass

    steps: list[int] = []

    def cut(progress: Any) -> None:
        steps.append(progress.step)
        if len(steps) == 3:
            raise PowerCutError

    # The callback runs after the last step's checkpoint was written: as if the power failed before the leaf was saved.
    with pytest.raises(PowerCutError):
        device.learn(steps=3, on_step=cut)
    assert "leaf" not in device.adapters
    resumed = device.learn(steps=4, on_step=cut).adapter
    assert steps == [1, 2, 3, 4]
    assert adapters.to_bytes(resumed) == adapters.to_bytes(device.learn(steps=4, afresh=True).adapter)


def test_an_unfinished_training_of_other_pictures_is_kept_and_said(device: Device, tmp_path: Path) -> None:
    class PowerCutError(Exception):
        pass

    def cut(progress: Any) -> None:
        raise PowerCutError

    with pytest.raises(PowerCutError):
        device.learn(steps=1, on_step=cut)
    unfinished = (device.home / "leaf.checkpoint").read_bytes()
    fewer, device.pictures = device.pictures, write_squares(tmp_path / "more", 9)
    with pytest.warns(TrainingPutAside, match=r"unfinished training of 1 steps .* kept in .*leaf.checkpoint.aside"):
        device.learn(steps=1)
    assert (device.home / "leaf.checkpoint.aside").read_bytes() == unfinished
    # Asked to forget, it forgets.
    with pytest.raises(PowerCutError):
        device.learn(steps=1, on_step=cut)
    device.pictures = fewer
    device.learn(steps=1, afresh=True)
    assert (device.home / "leaf.checkpoint.aside").read_bytes() == unfinished
    assert not (device.home / "leaf.checkpoint").exists()


def test_a_leaf_is_learnt_once_at_a_time_in_a_home(device: Device) -> None:
    """Two trainings would write one checkpoint."""

    def try_too(_: Any) -> None:
        with pytest.raises(DeviceBusy, match="already"):
            device.learn(steps=1)

    assert device.learn(steps=1, on_step=try_too).steps == 1
    assert device.learn(steps=1).steps == 1


def test_a_home_that_cannot_be_made_is_named(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    device = Device(tiny_bundle(), model=tiny_model(), pictures=pictures, home=tmp_path / "home")
    with pytest.raises(ConfigurationError, match="Cannot use"):
        device.learn(steps=1)


def test_what_another_training_left_behind_is_dropped(device: Device) -> None:
    device.home.mkdir()
    (device.home / "leaf.checkpoint").write_bytes(b"of an older version")
    assert device.learn(steps=1).steps == 1


def shared(adapter: Adapter, said: bytes) -> bool:
    """True if the first sixteen bytes of any factor were heard."""
    factors = [matrix for f in adapter.layers.values() for matrix in (f.a, f.b)]
    return any(matrix.tobytes()[:16] in said for matrix in factors if matrix.any())


def heard(payload: bytes) -> Message | None:
    """A message; None for a chunk."""
    try:
        return decode(payload)
    except MessageInvalid:
        return None


def forms(secret: bytes) -> tuple[str, ...]:
    """The ways in which bytes are written into a text."""
    return repr(secret)[2:-1], secret.hex(), b64encode(secret).decode(), urlsafe_b64encode(secret).decode().rstrip("=")


def test_it_takes_part_in_a_federation(device: Device, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    device.learn(steps=1)
    reported: list[dict[str, Any]] = []
    with EmbeddedBroker() as broker:
        federation = parse(FEDERATION.format(broker=broker.url, bundle=tiny_bundle()), folder=tmp_path)
        service = Service(federation, on_event=reported.append)
        coordinating = threading.Thread(target=service.run, kwargs={"once": True}, daemon=True)
        coordinating.start()
        events: list[dict[str, Any]] = []
        plans: list[RoundPlan] = []
        overheard: list[bytes] = []
        called: list[str] = []
        listener = connect(broker.url, client_id="listener")
        listener.subscribe("#", lambda _, payload: overheard.append(payload))
        with device.join(
            broker.url,
            federation="squares",
            on_event=events.append,
            on_step=lambda progress: called.append("step"),
            on_plan=plans.append,
            on_turn=lambda: called.append("turn"),
        ) as membership:
            result = membership.run(deadline=120.0)
        service.stop()
        coordinating.join(60)
        listener.close()
    said = b"".join(overheard)
    assert shared(device.adapter("cluster"), said), "the listener hears what is exchanged"
    assert not shared(device.adapter("leaf"), said)
    for _, caption in squares(8):
        assert caption.encode() not in said
    joins = [message for payload in overheard if payload and isinstance(message := heard(payload), Join)]
    assert {(join.profile.level, len(join.profile.prompt_code)) for join in joins} == {("coarse", 16)}
    # Nor is any of it in a log or an event of either side, or in what the coordinator keeps: no caption, picture, key
    # or place, and no code beside the profile's.
    logged = "\n".join([caplog.text, *map(repr, [*events, *reported])])
    kept = b"".join(file.read_bytes() for file in (tmp_path / "squares.coordinator").rglob("*") if file.is_file())
    assert "round_started" in logged
    assert joins[0].profile.prompt_code in kept, "what is looked for can be found"
    names = [caption for _, caption in squares(8)] + [path.name for path in device.pictures.glob("*.png")]
    for name in [*names, str(device.home), str(device.pictures)]:
        assert name not in logged
        assert name.encode() not in kept + said
    own = read_own_key(device.home / "journal.sqlite")
    coordinators = b64decode(json.loads((tmp_path / "squares.coordinator" / "keys.json").read_bytes())["private"])
    assert own
    assert own not in kept + said
    for secret in (own, coordinators, joins[0].profile.prompt_code):
        assert not any(form in logged for form in forms(secret))
    for home in (device.home, tmp_path / "squares.coordinator"):
        assert home.stat().st_mode & 0o077 == 0
        files = [path for path in home.rglob("*") if path.is_file() and path.parent.parent.name != "prior"]
        readable = {path.name for path in files if path.stat().st_mode & 0o077}
        assert readable <= {"journal.lock", "leaf.lock", "device_id", "coordinator.lock", "owner"}
    assert not coordinating.is_alive()
    assert result.finished
    assert result.updates == 2
    assert [event["stage"] for event in events if event["event"] == "round_started"] == ["root", "cluster"]
    assert [(plan.round, plan.stage, len(plan.frozen)) for plan in plans] == [(1, "root", 0), (2, "cluster", 1)]
    assert called[0] == "turn"
    assert called.count("step") == 4
    assert all(before == "turn" for before, name in pairwise(called) if name == "step"), "a turn for each step"
    assert {"root", "cluster", "leaf"} <= set(device.adapters)
    assert all(device.adapter(name).base_id == device.generator.base_id for name in device.adapters)
    everything = drawing(device)
    assert np.array_equal(everything, drawing(device, adapters={"root": 1.0, "cluster": 1.0, "leaf": 1.0}))
    assert not np.array_equal(everything, drawing(device, adapters={"leaf": 1.0}))
    assert device.learn(steps=1).steps == 1, "a leaf on top of what the federation brought"


UNDER_MASKS = (
    FEDERATION.replace("min_devices = 1", "min_devices = 4")
    .replace("rounds = 2", "rounds = 1", 1)
    .replace(
        "[clustering]\nclusters = 1",
        '[aggregation]\nmethod = "fedit"\nmasked = true\n[clustering]\nmethod = "single"',
    )
)


def test_four_devices_sum_their_updates_under_masks(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At level coarse, with the default scale: nothing is clipped, and the mean is that of what was trained."""
    trained: list[Adapter] = []

    def note(
        update: Adapter, start: Adapter, stats: TrainingStats, masking: Masking, share: Share, *slots: int
    ) -> bytes:
        trained.append(update)
        return vector_of(update, start, stats, masking, share, *slots)

    monkeypatch.setattr(runner, "vector_of", note)
    told: list[dict[str, Any]] = []
    overheard: list[bytes] = []
    devices = [
        Device(tiny_bundle(), model=tiny_model(), pictures=pictures, home=tmp_path / name, threads=1)
        for name in ("ann", "bob", "cem", "dee")
    ]
    with EmbeddedBroker() as broker:
        federation = parse(UNDER_MASKS.format(broker=broker.url, bundle=tiny_bundle()), folder=tmp_path)
        service = Service(federation, on_event=told.append)
        coordinating = threading.Thread(target=service.run, kwargs={"once": True}, daemon=True)
        coordinating.start()
        listener = connect(broker.url, client_id="listener")
        listener.subscribe("#", lambda _, payload: overheard.append(payload))
        with ExitStack() as opened, ThreadPoolExecutor(4) as together:
            memberships = [opened.enter_context(device.join(broker.url, federation="squares")) for device in devices]
            results = list(together.map(lambda membership: membership.run(deadline=120.0), memberships))
        coordinating.join(60)
        listener.close()
    assert [(result.finished, result.updates) for result in results] == [(True, 1)] * 4
    (closed,) = [event for event in told if event["event"] == "round_closed"]
    assert (closed["updates"], closed["clipped"]) == (4, 0.0)
    said, root = b"".join(overheard), devices[0].adapter("root")
    assert len(trained) == 4
    assert shared(root, said)
    # A is heard in what everybody knows before, its start; a bias of 0 has no bytes of its own.
    assert not any(shared(Adapter({n: Factors(f.a * 0, f.b) for n, f in u.layers.items()}), said) for u in trained)
    for name, factors in root.layers.items():
        for factor in "ab":
            wanted = np.mean([np.float64(getattr(update.layers[name], factor)) for update in trained], axis=0)
            np.testing.assert_allclose(getattr(factors, factor), wanted, atol=1e-6)


def test_few_captions_make_no_code(device: Device, tmp_path: Path) -> None:
    device.pictures = write_squares(tmp_path / "few", 7)
    with pytest.raises(PromptError, match=r"'coarse' needs at least 8 different captions.*the pictures have 7"):
        device.join("mqtt://127.0.0.1:1", federation="squares")
    with pytest.raises(ConfigurationError, match=r"no privacy level 'none'"):
        device.join("mqtt://127.0.0.1:1", federation="squares", privacy="none")
    device.join("mqtt://127.0.0.1:1", federation="squares", privacy="plain").close()


@pytest.fixture
def profiles(monkeypatch: pytest.MonkeyPatch) -> list[DeviceProfile]:
    """The profiles of memberships, which are not opened."""
    seen: list[DeviceProfile] = []
    monkeypatch.setattr("edge_sdk.device.device.Membership", lambda *given, **options: seen.extend(given[3]))
    return seen


def test_pictures_are_read_once_for_a_join(
    pictures: Path, tmp_path: Path, profiles: list[DeviceProfile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So captions and pictures are of one moment, and what is left out is told once."""
    folder = Path(shutil.copytree(pictures, tmp_path / "pictures"))
    for row in map(json.loads, (folder / "metadata.jsonl").read_text("utf-8").splitlines()):
        (folder / row["file_name"]).with_suffix(".txt").write_text(row["text"], "utf-8")
    (folder / "metadata.jsonl").unlink()
    (folder / "film.mp4").write_bytes(b"no picture")
    read: list[Path] = []
    monkeypatch.setattr(folder_, "list_pictures", lambda place: read.append(place) or list_pictures(place))
    device = Device(picture_bundle(), model=tiny_model(), pictures=folder, home=tmp_path / "home", threads=1)
    with pytest.warns(PictureLeftOut) as told:
        device.join("memory://nobody", federation="squares")
    assert read == [folder]
    assert len(told) == 1
    assert profiles[0].prompt_code


def test_its_picture_code_is_of_all_its_pictures(tmp_path: Path, profiles: list[DeviceProfile]) -> None:
    """Of those, too, that are kept from training; in no graph that stays open beside it."""
    folder = write_squares(tmp_path / "pictures", 13)
    device = Device(picture_bundle(), model=tiny_model(), pictures=folder, home=tmp_path / "home", threads=1)
    device.join("memory://nobody", federation="squares", privacy=["plain", "coarse"])
    device.join("memory://nobody", federation="squares", share_picture_code=False)
    plain, coarse, without = profiles
    images = [picture.image for picture in load_pictures(folder, 32)]
    assert len(images) == 13 > plain.pictures
    with Generator.load(picture_bundle(), threads=1) as generator:
        wanted = generator.encode_picture(images).mean(axis=0)
        encoder = generator.bundle.index.image_encoder
    assert encoder is not None
    assert np.allclose(np.frombuffer(plain.picture_code, "<f4"), wanted, atol=1e-6)
    assert len(coarse.picture_code) == EMBEDDING
    assert np.allclose(np.frombuffer(coarse.picture_code, np.int8) / 4, wanted, atol=0.126)
    assert plain.picture_encoder == coarse.picture_encoder == bytes.fromhex(encoder.id)
    assert device.generator._stages.opened == ()
    assert (without.picture_code, without.picture_encoder) == (b"", b"")
    assert without.prompt_code == coarse.prompt_code


def test_a_picture_code_stays_while_few_pictures_have_changed(tmp_path: Path, profiles: list[DeviceProfile]) -> None:
    """And there is none of fewer than eight different pictures."""
    folder = write_squares(tmp_path / "pictures", 8)
    device = Device(picture_bundle(), model=tiny_model(), pictures=folder, home=tmp_path / "home", threads=1)
    device.join("memory://nobody", federation="squares")
    kept = tmp_path / "home" / "picture-code-coarse.json"
    assert kept.stat().st_mode & 0o077 == 0
    first, *others = sorted(folder.glob("*.png"))
    shutil.copy(first, others[0])
    device.join("memory://nobody", federation="squares")
    assert profiles[1].picture_code == b""
    write_squares(folder, 10)
    device.join("memory://nobody", federation="squares")
    kept.unlink()
    device.join("memory://nobody", federation="squares")
    again, anew = profiles[2:]
    assert again.picture_code == profiles[0].picture_code != b""
    assert anew.picture_code != b""


def test_without_an_image_encoder_it_has_no_picture_code(device: Device, profiles: list[DeviceProfile]) -> None:
    device.join("memory://nobody", federation="squares")
    assert [profile.picture_code for profile in profiles] == [b""]


def test_it_keeps_its_name(device: Device) -> None:
    name = Home(device.home).own_id()
    assert name.startswith("device-")
    assert Home(device.home).own_id() == name


def test_a_name_that_a_power_cut_left_empty_is_given_anew(tmp_path: Path) -> None:
    device = Device(tmp_path / "bundle", home=tmp_path / "home")
    device.home.mkdir()
    (device.home / "device_id").write_bytes(b"")
    name = Home(device.home).own_id()
    assert name.startswith("device-")
    assert Home(device.home).own_id() == name
    assert [path.name for path in device.home.iterdir()] == ["device_id"]


def test_a_slow_device_delivers_what_it_has_before_the_round_closes(pictures: Path, tmp_path: Path) -> None:
    """A million steps would take days."""
    device = Device(tmp_path / "bundle", home=tmp_path)
    trainer, steps = Trainer(tiny_model(), pictures, threads=1), []
    plan = RoundPlan(
        round=1, rounds=1, stage="root", cluster=None, frozen=(), start=None, share=Share.BOTH, rank=2, seed=0,
        steps=1_000_000, batch_size=2, learning_rate=1e-3, deadline=1.0,
    )  # fmt: skip
    update = device._train_round(trainer, plan, steps.append)
    assert 1 <= len(steps) < plan.steps
    assert update.adapter.rank == 2


def test_a_federation_that_nobody_coordinates(device: Device) -> None:
    with (
        EmbeddedBroker() as broker,
        device.join(broker.url, federation="nowhere") as membership,
        pytest.raises(UnknownFederation, match="nowhere"),
    ):
        membership.run(answer=0.5)


def test_an_adapter_at_home_is_read_again_only_when_its_file_is_another_one(device: Device) -> None:
    device.learn(steps=1)
    first = device.adapter("leaf")
    assert device.adapter("leaf") is first
    adapters.save(first, device.adapters["leaf"])
    assert device.adapter("leaf") is not first
    device.adapters["leaf"].unlink()
    with pytest.raises(AdapterError, match="no adapter 'leaf'"):
        device.adapter("leaf")


def test_an_adapter_that_is_not_at_home(device: Device) -> None:
    with pytest.raises(AdapterError, match=r"no adapter 'leaf'.*none yet"):
        device.generate("a fox", adapters={"leaf": 1.0})


def test_an_adapter_of_another_model_at_home(device: Device) -> None:
    leaf = device.learn(steps=1).adapter
    adapters.save(adapters.Adapter(leaf.layers, "another model"), device.home / "leaf.safetensors")
    with pytest.raises(AdapterMismatch):
        device.generate("a fox")


def test_a_cancelled_drawing_is_no_picture(device: Device) -> None:
    with pytest.raises(ImpastoError, match="cancelled"):
        device.generate("a fox", steps=2, on_step=lambda *step: False)


def test_what_learning_needs_is_named(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="model="):
        Device(tiny_bundle(), pictures=pictures, home=tmp_path).learn(steps=1)
    with pytest.raises(NoPictures, match="pictures="):
        Device(tiny_bundle(), model=tiny_model(), home=tmp_path).learn(steps=1)
    with pytest.raises(BundleMissing):
        Device(tmp_path, home=tmp_path).generate("a fox")


def test_model_and_bundle_must_be_one(pictures: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "model", seed=1)
    device = Device(tiny_bundle(), model=other, pictures=pictures, home=tmp_path / "home")
    with pytest.raises(TrainingError, match="not the base model"):
        device.learn(steps=1)
    assert not device.home.exists()


def test_at_level_local_its_codes_stay_at_home(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the same code from one join to the next."""
    made: list[tuple[list[DeviceProfile], bytes]] = []
    monkeypatch.setattr(
        "edge_sdk.device.device.Membership", lambda *given, **options: made.append((given[3], options["code"]))
    )
    device.join("memory://nobody", federation="squares", privacy="local")
    device.join("memory://nobody", federation="squares", privacy=["coarse", "local"])
    device.join("memory://nobody", federation="squares")
    ((local,), code), ((coarse, again), same), (_, none) = made
    assert (local.level, local.prompt_code, local.picture_code, local.picture_encoder) == ("local", b"", b"", b"")
    assert local.basis == coarse.basis != b""
    assert again == local
    assert len(code) == len(coarse.prompt_code) == 16
    assert (same, none) == (code, b"")
    assert (device.home / "code-local.json").stat().st_mode & 0o077 == 0
