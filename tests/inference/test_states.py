"""Drawings in halves: from any state, a drawing goes on as if it had never stopped. Other states are refused."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from edge_sdk.adapter import Adapter, Factors
from edge_sdk.errors import PromptError, StateInvalid, StateMismatch
from edge_sdk.inference import HYBRIDS, MAX_STATE, SCHEDULERS, DrawingState, Generator, Order, PromptWords, read_state
from edge_sdk.inference import SolverState as Solver
from edge_sdk.inference.bundle.index import Bundle, Fused
from edge_sdk.inference.sampling.schedulers import NoiseSchedule, Start, solved
from tests.inference.test_schedulers import CONFIGS, at
from tests.models import LATENT_SHAPE, Kind, tiny_bundle

PROMPT = "a red fox, flat icon"
ORDER: dict[str, Any] = {"prompt": PROMPT, "seed": 3, "steps": 6, "guidance": 3.0, "scheduler": "dpm++"}
Floats = npt.NDArray[np.float32]


@functools.cache
def generator(kind: Kind = "v_prediction") -> Generator:
    return Generator.load(tiny_bundle(kind), threads=1)


def adapter(seed: int, kind: Kind = "v_prediction") -> Adapter:
    rng = np.random.default_rng(seed)
    layers = {
        name: Factors(
            (rng.standard_normal((4, shape.in_features)) / shape.in_features**0.5).astype(np.float32),
            (0.3 * rng.standard_normal((shape.out_features, 4))).astype(np.float32),
        )
        for name, shape in generator(kind).slots.items()
    }
    return Adapter(layers, base_id=generator(kind).base_id)


def drawn(order: Order, kind: Kind = "v_prediction") -> list[DrawingState]:
    return list(generator(kind).states(order))


def carried(state: DrawingState) -> DrawingState:
    """The state after a journey as bytes."""
    return read_state(state.to_bytes())


def state(**changes: Any) -> DrawingState:
    """A good state after 2 of the steps of `ORDER`."""
    return _changed(carried(next(islice(generator().states(Order(**ORDER)), 1, None))), **changes)


def _changed(found: DrawingState, **changes: Any) -> DrawingState:
    course = msgspec.structs.replace(
        found.course, **{name: value for name, value in changes.items() if name in found.course.__struct_fields__}
    )
    solver = Solver(changes.get("latents", found.latents), changes.get("previous", found.solver.previous))
    return DrawingState(course, changes.get("step", found.step), solver)


# --- goes on --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_goes_on_from_every_state_bit_for_bit(name: str, config: str) -> None:
    schedule = NoiseSchedule.from_json(json.dumps(CONFIGS[config]).encode())
    unit = np.random.default_rng(0).standard_normal((2, 4, 8, 8), np.float32)

    def states(start: Start) -> Iterator[Solver]:
        noise = np.random.default_rng(5)
        fresh = lambda: noise.standard_normal((2, 4, 8, 8)).astype(np.float32)  # noqa: E731
        return solved(SCHEDULERS[name](start, schedule, 7, fresh), at)

    whole = list(states(Start(unit)))
    for done in range(1, 7):
        rest = list(states(Start(unit, done=done, state=whole[done - 1])))
        assert len(rest) == 7 - done
        for ours, theirs in zip(rest, whole[done:], strict=True):
            np.testing.assert_array_equal(ours.latents, theirs.latents)
    for done in (0, 7, 8):
        with pytest.raises(ValueError, match=f"After {done} steps of 7 there is nothing to go on with"):
            next(states(Start(unit, done=done, state=whole[0])))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_two_halves_are_the_whole(scheduler: str, guidance: float, count: int) -> None:
    order = {**ORDER, "scheduler": scheduler, "guidance": guidance, "count": count, "adapters": [(adapter(1), 0.8)]}
    whole = drawn(Order(**order))
    for done in (1, 3, 5):
        rest = drawn(Order(**order, state=carried(whole[done - 1])))
        assert [found.step for found in rest] == [*range(done + 1, 7)]
        np.testing.assert_array_equal(rest[-1].latents, whole[-1].latents)
    pictures = generator().decode(rest[-1].latents)
    wanted = generator().generate(**order)
    assert [picture.tobytes() for picture in pictures] == [picture.tobytes() for picture in wanted]


@pytest.mark.parametrize("hybrid", HYBRIDS)
def test_hybrids_take_their_turns_by_the_steps_of_the_whole(hybrid: str) -> None:
    order = {**ORDER, "adapters": [(adapter(1), 1.0), (adapter(2), 0.7)], "hybrid": hybrid}
    whole = drawn(Order(**order))
    rest = drawn(Order(**order, state=carried(whole[2])))
    np.testing.assert_array_equal(rest[-1].latents, whole[-1].latents)


@pytest.mark.parametrize("kind", ["epsilon", "xl", "lcm"])
def test_families_go_on_too(kind: Kind) -> None:
    order = {"prompt": PROMPT, "seed": 1, "steps": 4}
    whole = drawn(Order(**order), kind)
    rest = drawn(Order(**order, state=carried(whole[1])), kind)
    np.testing.assert_array_equal(rest[-1].latents, whole[-1].latents)


def test_who_goes_on_brings_other_adapters_and_prompts() -> None:
    first = drawn(Order(**{**ORDER, "prompt": ""}))[2]
    plain = drawn(Order(**ORDER, state=first))[-1]
    leaf = drawn(Order(**ORDER, adapters=[(adapter(4), 1.0)], state=first))[-1]
    assert float(np.abs(plain.latents - leaf.latents).max()) > 1e-2
    assert float(np.abs(plain.latents - drawn(Order(**ORDER))[-1].latents).max()) > 1e-2


@pytest.mark.parametrize("kind", ["v_prediction", "xl"])
def test_token_ids_draw_what_their_text_draws(kind: Kind) -> None:
    words = [generator(kind).words(text) for text in (PROMPT, "")]
    assert not words[0].empty
    assert words[1].empty
    by_words = drawn(Order(**{**ORDER, "prompt": words[0], "negative_prompt": words[1]}), kind)
    np.testing.assert_array_equal(by_words[-1].latents, drawn(Order(**ORDER), kind)[-1].latents)


@pytest.mark.parametrize("ids", [((1, 10**6),), ((-1,),), ((1,) * 200,), (), ((1,), (1,))])
def test_token_ids_of_another_tokenizer_are_refused(ids: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(PromptError, match="give the bundle that it was made with"):
        drawn(Order(**{**ORDER, "prompt": PromptWords(ids)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": None}, "goes on with the seed"),
        ({"latents": np.zeros((1, *LATENT_SHAPE), np.float32)}, "with latents: leave that out"),
    ],
)
def test_what_a_state_does_not_go_together_with(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drawn(Order(**{**ORDER, **changes}, state=state()))


# --- is refused -----------------------------------------------------------------------------------------------------

NAN, INFINITE, HUGE = (np.full((1, *LATENT_SHAPE), value, np.float32) for value in (np.nan, np.inf, 1e8))
GOOD = np.zeros((1, *LATENT_SHAPE), np.float32)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"base_id": "f" * 64}, StateMismatch, "another base model"),
        ({"variant": "int8"}, StateMismatch, r"another precision.*\(int8\) than the drawing \(fp32\)"),
        ({"schedule": "0" * 16}, StateMismatch, "another noise schedule"),
        ({"scheduler": "ddim"}, StateMismatch, "another scheduler"),
        ({"steps": 25}, StateMismatch, "another number of steps"),
        ({"step": 6}, StateInvalid, "after 6 of 6 steps leaves nothing"),
        ({"step": 0}, StateInvalid, "after 0 of 6 steps"),
        ({"latents": NAN}, StateInvalid, "NaN or infinite"),
        ({"previous": INFINITE}, StateInvalid, "NaN or infinite"),
        ({"latents": HUGE}, StateInvalid, "no drawing gives"),
        ({"previous": None}, StateInvalid, "no x_0 of the last step"),
        ({"latents": GOOD[:, :3]}, StateInvalid, "shape"),
        ({"latents": np.concatenate([GOOD, GOOD])}, StateInvalid, "shape"),
    ],
)
def test_states_of_other_drawings_are_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        generator().states(Order(**ORDER, state=state(**changes)))


def test_an_x_0_is_of_dpm_alone() -> None:
    order = {**ORDER, "scheduler": "euler"}
    found = drawn(Order(**order))[1]
    with pytest.raises(StateInvalid, match="an x_0 of the last step, unlike those of euler"):
        generator().check_state(_changed(found, previous=found.latents), Order(**order))
    generator().check_state(found, Order(**order))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 100,
        b"\x80",
        state.__name__.encode(),
        msgspec.msgpack.encode({"format": 2}),
        b"\xff" * (MAX_STATE + 1),
    ],
)
def test_bytes_that_are_no_state(data: bytes) -> None:
    with pytest.raises(StateInvalid):
        read_state(data)


@pytest.mark.parametrize("changes", [{"shape": (1, 4, 8, 9)}, {"shape": (0, 4, 8, 8)}, {"step": 0}, {"more": 1}])
def test_bytes_of_a_state_that_was_tampered_with(changes: dict[str, Any]) -> None:
    content = msgspec.msgpack.decode(state().to_bytes())
    with pytest.raises(StateInvalid):
        read_state(msgspec.msgpack.encode({**content, **changes}))


def test_bundles_with_other_fused_files_are_told_apart(tmp_path: Path) -> None:
    index = Bundle.load(tiny_bundle(), verify=False).index
    fused = [msgspec.structs.replace(index, fused=[Fused(name="x", sha256=d * 64, weight=1.0)]) for d in "ab"]
    assert index.variant == "fp32"
    assert len({index.variant, *(other.variant for other in fused)}) == 3
    assert all(other.variant.startswith("fp32+") for other in fused)


def test_noise_schedules_are_told_apart() -> None:
    ids = {NoiseSchedule.from_json(json.dumps(config).encode()).id for config in CONFIGS.values()}
    assert len(ids) == len(CONFIGS)
