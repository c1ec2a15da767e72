"""The sum is the plain sum of those who stayed, bit for bit, whoever is lost when; or it is abandoned by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import RevealMissing, ShareInvalid, TooFewDevices
from edge_sdk.secure_aggregation import Layout, Scaled, decoded, device, encoded, to_bytes
from edge_sdk.secure_aggregation.keys import advertised, split_randomness
from tests.secure_aggregation.world import World, identity, random_bytes, terms, vector


def names(count: int) -> list[str]:
    return [f"d{number:03}" for number in range(count)]


@pytest.mark.parametrize("count", [3, 4, 8, 20, 50])
def test_nobody_is_lost(count: int) -> None:
    world = World(names(count), terms(5))
    world.begin()
    world.upload()
    assert world.state.phase == "done"
    assert world.total is not None
    assert (world.total == world.expected()).all()
    assert len(world.task.uploads) == count  # type: ignore[union-attr]
    assert not world.refused
    assert not world.liars
    assert not any(member.refused for member in world.members.values())


@settings(max_examples=20, deadline=None)
@given(st.data(), st.sampled_from([3, 4, 7, 8, 12, 20, 50]))
def test_losses_at_any_moment(data: st.DataObject, count: int) -> None:
    """Up to 30 % are lost, spread over the moments: before the shares, before the upload, before the unmasking."""
    everybody = names(count)
    lost = data.draw(st.lists(st.sampled_from(everybody), max_size=int(count * 0.3 + 1e-9), unique=True))
    moments = {name: data.draw(st.sampled_from(["shares", "upload", "consent", "unmask"])) for name in lost}
    layout = Layout(
        slots=data.draw(st.integers(1, 5)), tensors=(Scaled(name="a", size=data.draw(st.integers(1, 9)), scale=1.0),)
    )
    world = World(everybody, terms(layout.words))
    numbers = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    world.vectors = {
        name: encoded(
            layout,
            int(numbers.integers(layout.slots)),
            float(numbers.uniform()),
            {"a": numbers.uniform(-1.5, 1.5, layout.tensors[0].size)},
        )
        for name in everybody
    }
    run(world, moments)
    staying = [name for name in everybody if moments.get(name) in (None, "consent", "unmask")]
    if world.error is None:
        assert world.state.phase == "done"
        assert sorted(world.task.uploads) == staying  # type: ignore[union-attr]
        assert (world.total == world.expected()).all()
        assert world.total is not None
        decoded(layout, world.total, len(staying))
    else:
        assert count < 5  # where one loss leaves no majority of shares
        assert isinstance(world.error, ShareInvalid | TooFewDevices)
        assert world.total is None
        assert not world.blobs


@pytest.mark.parametrize("moment", ["shares", "upload", "consent", "unmask"])
@pytest.mark.parametrize("count", [8, 20, 50])
def test_thirty_percent_are_lost_at_the_worst_moment(count: int, moment: str) -> None:
    everybody = names(count)
    world = World(everybody, terms(3))
    run(world, dict.fromkeys(everybody[1::3][: int(count * 0.3 + 1e-9)], moment))
    assert world.error is None
    assert world.total is not None
    assert (world.total == world.expected()).all()


def run(world: World, moments: dict[str, str]) -> None:
    """An attempt in which devices are lost before they say what is named."""
    phases = {"shares": "sharing", "upload": "uploading", "consent": "consenting", "unmask": "unmasking"}

    def lose(name: str, message: object) -> object:
        if phases.get(moments.get(name, "")) == world.state.phase:
            world.gone.add(name)
            return None
        return message

    world.tamper = lose  # type: ignore[assignment]
    world.begin()
    if world.state.phase == "sharing":
        world.time_up()
    world.upload()
    for phase in ("uploading", "consenting", "unmasking"):
        if world.state.phase == phase:
            world.time_up()


def test_a_device_that_is_lost_before_it_advertises_is_not_in_the_roster() -> None:
    world = World(names(9), terms())
    world.gone = {"d001", "d002"}
    world.begin()
    assert world.state.phase == "advertising"
    assert world.state.awaited == world.gone
    world.time_up()
    world.upload()
    assert [entry.device for entry in world.state.roster] == [name for name in names(9) if name not in world.gone]
    assert (world.total == world.expected()).all()


def test_the_seed_of_the_graph_takes_everybody() -> None:
    world = World(names(50), terms())
    world.tamper = lambda name, message: None if name == "d007" else message
    world.begin()
    assert world.state.phase == "revealing"
    world.time_up()
    assert isinstance(world.error, RevealMissing)
    assert world.state.phase == "abandoned"
    assert {member.state.phase for name, member in world.members.items() if name != "d007"} == {"revealed"}


@pytest.mark.parametrize(
    ("moment", "error"),
    [("shares", TooFewDevices), ("upload", TooFewDevices), ("consent", TooFewDevices), ("unmask", ShareInvalid)],
)
@pytest.mark.parametrize("count", [8, 50])
def test_too_many_losses_end_the_attempt_and_nothing_is_learnt(count: int, moment: str, error: type) -> None:
    everybody = names(count)
    world = World(everybody, terms())
    lost = count - 4 if count == 8 else count - 5
    run(world, dict.fromkeys(everybody[:lost], moment))
    assert isinstance(world.error, error)
    assert world.spent == (moment == "unmask")
    assert world.total is None
    assert not world.blobs
    assert world.state.reason.startswith(error.__name__)
    assert not world.state.shares
    assert not world.state.answers


def test_too_few_devices_to_begin() -> None:
    world = World(names(4), terms())
    world.gone = {"d000", "d001"}
    world.begin()
    world.time_up()
    assert isinstance(world.error, TooFewDevices)


def test_a_new_attempt_has_new_keys_and_the_same_vectors_give_the_same_sum() -> None:
    first, second = World(names(5), terms(attempt=1)), World(names(5), terms(attempt=2))
    first.begin()
    first.gone = {"d000", "d001", "d002"}
    first.upload()
    first.time_up()
    assert isinstance(first.error, TooFewDevices)
    second.members = first.members
    second.begin()
    second.upload()
    assert (second.total == second.expected()).all()
    before = advertised(first.terms, "d003", identity("d003"), split_randomness(random_bytes("d003", 1)))
    after = second.state.roster[3]
    assert before.identity == after.identity
    assert before.mask_key != after.mask_key
    assert before.share_key != after.share_key
    assert before.commitment != after.commitment


def test_slots_of_several_clusters_come_out_as_their_means() -> None:
    layout = Layout(
        slots=3,
        tensors=(Scaled(name="a", size=4, scale=2.0), Scaled(name="b", size=3, scale=0.5)),
        common=(Scaled(name="loss", size=1, scale=10.0),),
    )
    everybody, numbers = names(6), np.random.default_rng(1)
    values = {name: {"a": numbers.normal(0, 0.4, 4), "b": numbers.normal(0, 0.1, 3)} for name in everybody}
    world = World(everybody, terms(layout.words))
    world.begin()
    for number, name in enumerate(everybody):
        weight = (number + 1) / len(everybody)
        plain = encoded(layout, number % 2, weight, values[name], {"loss": [number]})
        world.do(name, world.members[name].feed(device.Vector(to_bytes(plain))))
    assert world.total is not None
    found = decoded(layout, world.total, len(everybody))
    assert found.clipped == 0
    assert found.common["loss"][0] == pytest.approx(15, abs=1e-4)
    assert found.slots[2] == type(found.slots[2])(0.0, {})
    for slot in (0, 1):
        weights = np.array([(number + 1) / 6 for number in range(slot, 6, 2)])
        assert found.slots[slot].weight == pytest.approx(weights.sum(), abs=1e-5)
        for tensor in ("a", "b"):
            wanted = np.average([values[name][tensor] for name in everybody[slot::2]], axis=0, weights=weights)
            assert found.slots[slot].tensors[tensor] == pytest.approx(wanted, abs=1e-5)


def test_masked_vectors_tell_nothing_by_themselves() -> None:
    """The coordinator holds no plain vector before the unmasking, nor one that is off by one mask alone."""
    world = World(names(5), terms(64))
    world.tamper = lambda _, message: None if world.state.phase == "consenting" else message
    world.begin()
    world.upload()
    assert world.state.phase == "consenting"
    plain = np.sum([vector(name, 64) for name in names(5)], axis=0, dtype=np.uint32)
    held = np.sum([np.frombuffer(data, "<u4") for data in world.blobs.values()], axis=0, dtype=np.uint32)
    assert len(world.blobs) == 5
    assert not (held == plain).any()
    for name in names(5):
        assert all(to_bytes(vector(name, 64)) not in part for part in world.parts.values())
        assert to_bytes(vector(name, 64)) not in world.blobs.values()
