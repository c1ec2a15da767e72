"""Drawings that go on together are those that they would be alone, and the UNet computes them in common runs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from edge_sdk.adapter import Adapter
from edge_sdk.errors import PromptError
from edge_sdk.inference import DrawingState, Generator, JointDrawing, Order, PromptTruncated
from edge_sdk.inference.bundle import Bundle, hash_files, write_index
from tests.assist.federation import adapter
from tests.models import Kind, tiny_bundle

# Relative to the size of the latents. Kernels add up in another order for another number of pictures.
TOLERANCE = 1e-4
ORDER: dict[str, Any] = {"steps": 6, "guidance": 3.0, "scheduler": "dpm++"}
Floats = npt.NDArray[np.float32]


class Counted(Generator):
    """A generator that counts the runs of its UNet, and their pictures."""

    runs: list[int]

    @classmethod
    def of(cls, bundle: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Counted:
        found = cls.load(bundle, verify=False, threads=1, **options)
        assert isinstance(found, Counted)
        found.runs = []
        run = found._stages.run

        def counted(stage: str, outputs: Sequence[str], feed: Mapping[str, Any]) -> list[Floats]:
            if stage == "unet":
                found.runs.append(len(feed["sample"]))
            return run(stage, outputs, feed)

        monkeypatch.setattr(found._stages, "run", counted)
        return found


def alone(generator: Generator, order: Order) -> list[DrawingState]:
    return list(generator.states(order))


def assert_same(found: DrawingState | None, wanted: DrawingState) -> None:
    assert found is not None
    assert (found.course, found.step) == (wanted.course, wanted.step)
    for ours, theirs in zip(arrays(found), arrays(wanted), strict=True):
        assert np.abs(ours - theirs).max() <= TOLERANCE * max(1.0, float(np.abs(theirs).max()))


def arrays(state: DrawingState) -> list[Floats]:
    return [state.latents, *([] if state.solver.previous is None else [state.solver.previous])]


def both(generator: Generator) -> list[tuple[Adapter, float]]:
    return [(adapter(generator, 1), 0.8), (adapter(generator, 2), 0.5)]


@pytest.mark.parametrize("hybrid", ["merge", "guide", "switch", "composite", "select", "bands"])
def test_each_is_what_it_is_alone(hybrid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of other prompts, seeds, guidance and schedulers; one begins two steps later, and one leaves."""
    generator = Counted.of(tiny_bundle(), monkeypatch)
    shared = {**ORDER, "adapters": both(generator), "hybrid": hybrid}
    orders = [
        Order(prompt="a red fox", seed=1, **shared),
        Order(prompt="the moon", seed=2, negative_prompt="blue", **{**shared, "guidance": 1.5}),
        Order(prompt="a fox", seed=3, **{**shared, "guidance": 1.0, "scheduler": "ddim"}),
        Order(prompt="", seed=4, **{**shared, "scheduler": "euler"}),
    ]
    wanted = [alone(generator, order) for order in orders]
    joint = generator.together()
    generator.runs.clear()
    drawings = [joint.begin(order) for order in orders[:3]]
    for step in range(6):
        if step == 2:
            drawings.append(joint.begin(orders[3]))
        if step == 3:
            joint.leave(drawings[1])
        joint.step()
        for number, drawing in enumerate(drawings):
            done = step - 1 if number == 3 else min(step + 1, 3) if number == 1 else step + 1
            assert_same(drawing.state, wanted[number][done - 1])
    assert [drawing.is_done for drawing in drawings] == [True, False, True, False]
    assert len(joint) == 1
    # A drawing alone takes `most` runs; hybrids whose adapters take turns by step share those of drawings at one step.
    most = {"guide": 2, "composite": 2, "bands": 3}.get(hybrid, 1)
    turns = 2 if hybrid in ("switch", "select") else 1
    assert len(generator.runs) <= 6 * most * turns
    assert max(generator.runs) > 2


def test_drawings_of_the_same_adapters_are_one_run_at_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Counted.of(tiny_bundle(), monkeypatch)
    shared, joint = {**ORDER, "adapters": both(generator)}, generator.together()
    for seed in range(3):
        joint.begin(Order(prompt="a fox", seed=seed, **shared))
        joint.step()
    assert generator.runs == [2, 4, 6]
    joint.begin(Order(prompt="a fox", seed=4, **ORDER))  # without adapters
    joint.begin(Order(prompt="a fox", seed=5, **shared, size=(64, 32)))
    joint.step()
    assert sorted(generator.runs[3:]) == [2, 2, 6]


@pytest.mark.parametrize("kind", ["epsilon", "lcm", "xl"])
def test_further_conditions_are_each_drawings_own(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Counted.of(tiny_bundle(kind), monkeypatch)
    orders = [
        Order(prompt="a red fox", seed=1, steps=4, guidance=3.0),
        Order(prompt="the moon", seed=2, steps=4, guidance=7.0),
    ]
    wanted = [alone(generator, order) for order in orders]
    joint = generator.together()
    first = joint.begin(orders[0])
    joint.step()
    second = joint.begin(orders[1])
    generator.runs.clear()
    for _ in range(4):
        joint.step()
    assert_same(first.state, wanted[0][-1])
    assert_same(second.state, wanted[1][-1])
    pictures = 1 if kind == "lcm" else 2
    assert generator.runs == [2 * pictures] * 3 + [pictures]


def test_a_drawing_goes_on_from_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Counted.of(tiny_bundle(), monkeypatch)
    options = {**ORDER, "prompt": "a red fox", "seed": 1, "adapters": both(generator), "hybrid": "switch"}
    wanted = alone(generator, Order(**options))
    joint = generator.together()
    whole, rest = joint.begin(Order(**options)), joint.begin(Order(**options, state=wanted[2]))
    for _ in range(3):
        joint.step()
    assert_same(whole.state, wanted[2])
    assert_same(rest.state, wanted[5])
    assert rest.is_done


def test_a_memory_limit_makes_parts_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Counted.of(tiny_bundle(), monkeypatch)
    monkeypatch.setattr(generator._stages, "fits", lambda stage, feed: len(feed["sample"]) <= 2)
    orders = [Order(prompt="a fox", seed=seed, **ORDER) for seed in range(3)]
    wanted = [alone(generator, order)[0] for order in orders]
    joint = generator.together()
    drawings = [joint.begin(order) for order in orders]
    generator.runs.clear()
    joint.step()
    assert generator.runs == [2, 2, 2]
    for drawing, state in zip(drawings, wanted, strict=True):
        assert_same(drawing.state, state)


def test_an_order_that_makes_no_sense_leaves_the_others_alone() -> None:
    generator = Generator.load(tiny_bundle(), verify=False, threads=1)
    joint = generator.together()
    good = joint.begin(Order(prompt="a fox", seed=1, **ORDER))
    with pytest.raises(ValueError, match="no step reuse"):
        joint.begin(Order(prompt="a fox", seed=1, reuse=2, **ORDER))
    with pytest.raises(PromptError):
        joint.begin(Order(prompt=b"a fox", seed=1, **ORDER))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps must be between 1 and"):
        joint.begin(Order(prompt="a fox", seed=1, **{**ORDER, "steps": 2000}))
    with pytest.warns(PromptTruncated) as warned:
        joint.leave(joint.begin(Order(prompt="fox " * 99, seed=1, **ORDER)))
    assert warned[0].filename == __file__
    joint.step()
    assert len(joint) == 1
    assert_same(good.state, alone(generator, Order(prompt="a fox", seed=1, **ORDER))[0])


# --- bundles of format 1 --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle as it was exported before: the UNet takes one timestep, and gives it to all pictures."""
    folder = tmp_path_factory.mktemp("earlier") / "bundle"
    shutil.copytree(tiny_bundle(), folder)
    path = folder / "unet" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    given = next(value for value in graph.input if value.name == "timestep")
    given.CopyFrom(helper.make_tensor_value_info("timestep", TensorProto.FLOAT, []))
    for node in graph.node:
        for number, name in enumerate(node.input):
            if name == "timestep":
                node.input[number] = "timesteps"
    for at, node in enumerate(
        (
            helper.make_node("Shape", ["sample"], ["pictures"], start=0, end=1),
            helper.make_node("Expand", ["timestep", "pictures"], ["timesteps"]),
        )
    ):
        graph.node.insert(at, node)
    onnx.save(model, path)
    index = Bundle.load(folder, verify=False).index
    write_index(folder, msgspec.structs.replace(index, format=1, files=hash_files(folder)))
    return folder


def test_a_bundle_of_format_1_draws_as_before(earlier: Path) -> None:
    order = Order(prompt="a fox", seed=1, **ORDER)
    found, wanted = (alone(Generator.load(path, threads=1), order) for path in (earlier, tiny_bundle()))
    for ours, theirs in zip(found, wanted, strict=True):
        assert_same(ours, theirs)


def test_a_bundle_of_format_1_joins_drawings_at_the_same_timestep(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Counted.of(earlier, monkeypatch)
    orders = [Order(prompt="a fox", seed=seed, **ORDER) for seed in range(3)]
    wanted = [alone(generator, order) for order in orders]
    joint = generator.together()
    drawings: list[JointDrawing] = [joint.begin(order) for order in orders[:2]]
    joint.step()
    drawings.append(joint.begin(orders[2]))
    generator.runs.clear()
    joint.step()
    assert sorted(generator.runs) == [2, 4]
    for drawing, states, done in zip(drawings, wanted, (2, 2, 1), strict=True):
        assert_same(drawing.state, states[done - 1])
