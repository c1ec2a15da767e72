"""Hybrids of several adapters, against the same UNet fed by hand."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edge_sdk.adapter import Adapter, Factors
from edge_sdk.errors import HybridUnsupported
from edge_sdk.inference import HYBRIDS, Generator
from edge_sdk.inference.adapters.hybrids.apart import by_bands, by_patches, everywhere, from_bands, to_bands
from edge_sdk.inference.adapters.hybrids.select import content_leads, layer_size
from edge_sdk.inference.adapters.mixing import Feed, to_feed
from edge_sdk.inference.bundle.index import DEEP, Slot
from edge_sdk.inference.runtime.memory import PROCESS, working_set
from edge_sdk.inference.runtime.stages import Stages
from edge_sdk.inference.sampling.schedulers import SCHEDULERS, NoiseSchedule, Point, Start, solved
from tests.models import LATENT_SHAPE, Kind, tiny_bundle

PROMPT = "a red fox, flat icon"
Latents = npt.NDArray[np.float32]


@functools.cache
def generator(kind: Kind = "v_prediction") -> Generator:
    return Generator.load(tiny_bundle(kind), threads=1)


@functools.cache
def stages(kind: Kind) -> Stages:
    return Stages(generator(kind).bundle, threads=1)


def slots(kind: Kind = "v_prediction") -> dict[str, Slot]:
    return {slot.name: slot for slot in generator(kind).bundle.index.slots}


def random_adapter(
    seed: int, kind: Kind = "v_prediction", *, rank: int = 4, every: int = 1, begin: int = 0, strength: float = 0.7
) -> Adapter:
    """On every n-th slot from `begin`."""
    rng = np.random.default_rng(seed)
    layers = {}
    for name, slot in sorted(slots(kind).items())[begin::every]:
        a = rng.standard_normal((rank, slot.in_features)) / np.sqrt(slot.in_features)
        b = strength * rng.standard_normal((slot.out_features, rank)) / np.sqrt(rank)
        layers[name] = Factors(a.astype(np.float32), b.astype(np.float32))
    return Adapter(layers, base_id=generator(kind).base_id)


def drawn(kind: Kind = "v_prediction", **options: Any) -> Latents:
    """The last latents of a drawing of four steps."""
    seen: list[Latents] = []
    chosen: dict[str, Any] = {"seed": 3, "steps": 4, "guidance": 4.0, "scheduler": "ddim", **options}
    generator(kind).generate(PROMPT, on_step=lambda step, of, x: seen.append(x), **chosen)
    return seen[-1]


def by_hand(
    feeds: Callable[[int], Sequence[tuple[int, Feed]]],
    kind: Kind = "v_prediction",
    guidance: float = 4.0,
    steps: int = 4,
    whole: Callable[[int], bool] = lambda step: True,
) -> Latents:
    """The same with the predictions of (number, feed) at each step averaged; deep features kept by number."""
    own, hidden = stages(kind), generator(kind).encode_prompt(["", PROMPT])[0]
    shallow = generator(kind).bundle.index.shallow_slots or []
    deep: dict[tuple[int, int], Latents] = {}
    step = -1

    def predict(x: Latents, t: float, row: int, number: int, feed: Feed) -> Latents:
        inputs: Feed = {
            "sample": x,
            "timestep": np.full(len(x), t, np.float32),
            "encoder_hidden_states": hidden[row : row + 1],
        }
        if not shallow:
            return own.run("unet", ["out_sample"], inputs | feed)[0]
        if whole(step):
            predicted, deep[row, number] = own.run("unet", ["out_sample", DEEP], inputs | feed)
            return predicted
        few = {name: value for name, value in feed.items() if name.split(".lora_")[0] in shallow}
        return own.run("unet_shallow", ["out_sample"], {**inputs, **few, DEEP: deep[row, number]})[0]

    def denoise(point: Point) -> Latents:
        x, t = point.x, point.t
        nonlocal step
        step += 1
        guided = []
        for number, feed in feeds(step):
            with_prompt = predict(x, t, 1, number, feed)
            without = predict(x, t, 0, number, feed) if guidance > 1 else with_prompt
            guided.append(without + np.float32(guidance) * (with_prompt - without))
        averaged: Latents = np.mean(guided, axis=0, dtype=np.float32)
        return averaged

    bundle = generator(kind).bundle
    schedule = NoiseSchedule.of_model(bundle.folder)
    noise = np.random.default_rng(5).standard_normal((1, *LATENT_SHAPE), np.float32)
    return list(solved(SCHEDULERS["ddim"](Start(noise), schedule, steps, lambda: noise), denoise))[-1].latents


# Those that differ from `merge` even with one adapter: the base model alone predicts without the prompt.
APART = ("guide", "steer", "patches", "bands")


def latents() -> Latents:
    return np.random.default_rng(5).standard_normal((1, *LATENT_SHAPE), np.float32)


def same(x: Latents, y: Latents) -> bool:
    return float(np.abs(x - y).max()) < 1e-3


# --- what each of them is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_switch_takes_turns(guidance: float) -> None:
    terms = [(random_adapter(1), 1.0), (random_adapter(2, rank=2, every=2), 0.5), (random_adapter(3, every=3), -0.5)]
    feeds = [to_feed([term], slots()) for term in terms]
    found = drawn(adapters=terms, hybrid="switch", latents=latents(), guidance=guidance)
    assert same(found, by_hand(lambda step: [(0, feeds[step % 3])], guidance=guidance))
    assert not same(found, drawn(adapters=terms, latents=latents(), guidance=guidance))
    turned = drawn(adapters=[*terms[1:], terms[0]], hybrid="switch", latents=latents(), guidance=guidance)
    assert not same(found, turned)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_composite_averages_what_each_adapter_predicts(guidance: float) -> None:
    terms = [(random_adapter(1), 1.0), (random_adapter(2, rank=2, every=2), 0.5)]
    feeds = [(0, to_feed([term], slots())) for term in terms]
    found = drawn(adapters=terms, hybrid="composite", latents=latents(), guidance=guidance)
    assert same(found, by_hand(lambda step: feeds, guidance=guidance))
    assert not same(found, drawn(adapters=terms, latents=latents(), guidance=guidance))
    swapped = drawn(adapters=terms[::-1], hybrid="composite", latents=latents(), guidance=guidance)
    assert same(found, swapped)


def test_select_draws_with_one_adapter_in_each_layer() -> None:
    """The content is large in every eighth layer, and small elsewhere: there it leads whatever the step."""
    large, small = random_adapter(1, every=8), random_adapter(2, strength=1e-3)
    content, style = Adapter({**small.layers, **large.layers}), random_adapter(3, rank=2)
    wanted = Adapter({**style.layers, **large.layers})
    found = drawn(adapters=[(content, 1.0), (style, 1.0)], hybrid="select", latents=latents())
    assert same(found, drawn(adapters=[(wanted, 1.0)], latents=latents()))
    # At its own weight.
    found = drawn(adapters=[(content, 0.5), (style, 1.0)], hybrid="select", latents=latents())
    half = [
        (Adapter(large.layers), 0.5),
        (Adapter({n: f for n, f in style.layers.items() if n not in large.layers}), 1),
    ]
    assert same(found, drawn(adapters=half, latents=latents()))


def chosen(content: Adapter, style: Adapter, steps: range, weights: tuple[float, float] = (1, 1)) -> list[set[str]]:
    """At each step, the layers that are the content's."""
    terms = [(content, weights[0]), (style, weights[1])]
    feeds = [to_feed([term], slots()) for term in terms]
    found = []
    for step in HYBRIDS["select"](terms, slots(), steps):
        (branch,) = step.branches
        layers = {name: slots()[name] for name in {*content.layers, *style.layers}}
        assert set(branch.feed) == {key for slot in layers.values() for key in (slot.input_a, slot.input_b)}
        ours = set()
        for name, slot in layers.items():
            a, b = branch.feed[slot.input_a], branch.feed[slot.input_b]
            source = next(
                n for n, feed in enumerate(feeds) if slot.input_a in feed and np.array_equal(feed[slot.input_a], a)
            )
            assert np.array_equal(feeds[source][slot.input_b], b)
            if source == 0:
                ours.add(name)
        found.append(ours)
    return found


def test_select_goes_from_content_to_style() -> None:
    content, style = random_adapter(1), random_adapter(2)
    found = chosen(content, style, range(12))
    assert found[0] == set(content.layers)
    assert not found[-1]
    assert all(later <= earlier for earlier, later in itertools.pairwise(found))
    # 1.5 t / T + 0.5 at a step, against a ratio of about 1.
    leads = content_leads(content, style)
    assert found[4] == {name for name, lead in leads.items() if lead > 1.0}
    # A drawing from a picture begins where its noise is.
    assert chosen(content, style, range(5, 12)) == found[5:]
    # Neither size nor weight of a whole adapter matter.
    tiny = random_adapter(2, strength=0.007)
    assert chosen(content, tiny, range(12)) == found
    assert chosen(content, style, range(12), weights=(0.3, -0.8)) == found


def test_select_compares_sums_of_the_largest_elements() -> None:
    content, style = random_adapter(1, rank=4), random_adapter(2, rank=3)
    elements = {
        which: {name: np.sort(np.abs(f.b @ f.a).ravel()) for name, f in adapter.layers.items()}
        for which, adapter in (("content", content), ("style", style))
    }
    gamma = np.mean([elements["content"][name].sum() / elements["style"][name].sum() for name in content.layers])
    for name, lead in content_leads(content, style).items():
        top, other = (elements[which][name][-12:].sum() for which in ("content", "style"))
        assert lead == pytest.approx(top / (gamma * other), rel=1e-4)
    name = next(iter(content.layers))
    assert layer_size(content, name, 12) is layer_size(content, name, 12)
    everything = layer_size(content, name, 10**9)
    assert everything.top == everything.total == pytest.approx(elements["content"][name].sum(), rel=1e-4)


def test_select_leaves_a_layer_that_one_adapter_has_to_that_one() -> None:
    evens, odds = random_adapter(1, every=2), random_adapter(2, every=2, begin=1)
    assert chosen(evens, odds, range(4)) == [set(evens.layers)] * 4
    merged = drawn(adapters=[(evens, 1.0), (odds, 1.0)], latents=latents())
    assert same(drawn(adapters=[(evens, 1.0), (odds, 1.0)], hybrid="select", latents=latents()), merged)
    # A shared layer that is zero in one of them is the other's; in both, nobody's.
    name = next(iter(evens.layers))
    factors = evens.layers[name]
    zero = Adapter({name: Factors(factors.a, np.zeros_like(factors.b))})
    assert content_leads(Adapter({name: factors}), zero) == {name: np.inf}
    assert content_leads(zero, Adapter({name: factors})) == content_leads(zero, zero) == {name: 0}


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_guide_leads_from_the_base_model_without_a_prompt_to_the_merged_adapters_with_it(guidance: float) -> None:
    terms = [(random_adapter(1), 1.0), (random_adapter(2, rank=2, every=2), 0.5)]
    mixed = to_feed(terms, slots())
    own, hidden = stages("v_prediction"), generator().encode_prompt(["", PROMPT])[0]

    def denoise(point: Point) -> Latents:
        x, t = point.x, point.t
        given = {"sample": x, "timestep": np.full(len(x), t, np.float32)}
        prompted = own.run("unet", ["out_sample"], {**given, "encoder_hidden_states": hidden[1:], **mixed})[0]
        without = own.run("unet", ["out_sample"], {**given, "encoder_hidden_states": hidden[:1]})[0]
        return prompted if guidance == 1 else without + np.float32(guidance) * (prompted - without)

    schedule = NoiseSchedule.from_json(generator().bundle.path("scheduler/scheduler_config.json").read_bytes())
    wanted = list(solved(SCHEDULERS["ddim"](Start(latents()), schedule, 4, latents), denoise))[-1].latents
    found = drawn(adapters=terms, hybrid="guide", latents=latents(), guidance=guidance)
    assert same(found, wanted)
    merged = drawn(adapters=terms, latents=latents(), guidance=guidance)
    assert same(found, merged) == (guidance == 1)


def test_one_adapter_is_guided_as_it_is_steered() -> None:
    options: dict[str, Any] = {"adapters": [(random_adapter(1), 1.0)], "latents": latents()}
    assert same(drawn(hybrid="guide", **options), drawn(hybrid="steer", **options))


def test_guide_takes_as_many_runs_as_merge() -> None:
    """A run with the prompt and one without it, which `merge` does as a pair."""
    (step, *_) = HYBRIDS["guide"]([(random_adapter(1), 1.0), (random_adapter(2), 1.0)], slots(), range(4))
    assert [(branch.prompted, branch.unprompted) for branch in step.branches] == [(False, True), (True, False)]


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize(("hybrid", "add_up"), [("steer", everywhere), ("patches", by_patches), ("bands", by_bands)])
def test_changes_of_the_base_models_prediction_are_put_together(
    hybrid: str, add_up: Callable[[Latents, Sequence[Latents]], Latents], guidance: float
) -> None:
    terms = [(random_adapter(1), 1.0), (random_adapter(2, rank=2, every=2), 0.5)]
    feeds = [to_feed([(adapter, 1.0)], slots()) for adapter, _ in terms]
    own, hidden = stages("v_prediction"), generator().encode_prompt(["", PROMPT])[0]

    def predict(x: Latents, t: float, row: int, feed: Feed) -> Latents:
        given = {
            "sample": x,
            "timestep": np.full(len(x), t, np.float32),
            "encoder_hidden_states": hidden[row : row + 1],
        }
        return own.run("unet", ["out_sample"], given | feed)[0]

    def denoise(point: Point) -> Latents:
        x, t = point.x, point.t
        base, without = predict(x, t, 1, {}), predict(x, t, 0, {})
        first, second = (predict(x, t, 1, feed) - base for feed in feeds)
        prompted = base + add_up(base, [first, np.float32(0.5) * second])
        return prompted if guidance == 1 else without + np.float32(guidance) * (prompted - without)

    schedule = NoiseSchedule.from_json(generator().bundle.path("scheduler/scheduler_config.json").read_bytes())
    wanted = list(solved(SCHEDULERS["ddim"](Start(latents()), schedule, 4, latents), denoise))[-1].latents
    found = drawn(adapters=terms, hybrid=hybrid, latents=latents(), guidance=guidance)
    assert same(found, wanted)
    assert same(found, drawn(adapters=terms[::-1], hybrid=hybrid, latents=latents(), guidance=guidance))


@pytest.mark.parametrize("shape", [(2, 4, 16, 16), (1, 4, 9, 12), (1, 8, 7, 5)])
def test_bands_hold_everything(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    parts = to_bands(x)
    assert len(parts) == (5 if shape[2] == 16 else 1)
    assert sum(float(np.square(part).sum()) for part in parts) == pytest.approx(float(np.square(x).sum()), rel=1e-5)
    assert np.allclose(from_bands(parts), x, atol=1e-6)


@pytest.mark.parametrize("add_up", [by_patches, by_bands])
@pytest.mark.parametrize("shape", [(2, 4, 16, 16), (1, 4, 9, 12)])
def test_shares_of_changes(add_up: Callable[[Latents, Sequence[Latents]], Latents], shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    base, one = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    nothing = np.zeros_like(one)
    # One alone is itself; equals are added up; who changes nothing leaves everything to the other.
    assert np.allclose(add_up(base, [one]), one, atol=1e-5)
    assert np.allclose(add_up(base, [one, one]), 2 * one, atol=1e-5)
    assert np.allclose(add_up(base, [one, nothing]), 2 * one, atol=1e-5)
    assert np.array_equal(add_up(base, [nothing, nothing]), nothing)


def test_a_patch_and_a_band_are_led_by_who_changes_them() -> None:
    rng = np.random.default_rng(3)
    base = rng.standard_normal((1, 4, 8, 8)).astype(np.float32)
    left, right = np.zeros_like(base), np.zeros_like(base)
    left[..., :4], right[..., 4:] = (rng.standard_normal((1, 4, 8, 4)).astype(np.float32) for _ in range(2))
    assert np.allclose(by_patches(base, [left, right]), 2 * (left + right), atol=1e-5)
    flat = np.ones_like(base)
    fine = np.indices((8, 8)).sum(axis=0)[None, None] % 2 * np.float32(2) - flat
    assert np.allclose(by_bands(base, [flat, fine]), 2 * (flat + fine), atol=1e-5)


# --- what holds for all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hybrid", HYBRIDS)
def test_weight_0_takes_no_part(hybrid: str) -> None:
    one, none, more = (random_adapter(1), 0.8), (random_adapter(2), 0.0), (random_adapter(3), 0.0)
    alone = drawn(adapters=[one], hybrid=hybrid if hybrid in APART else "merge")
    assert np.array_equal(drawn(adapters=[one, none], hybrid=hybrid), alone)
    assert np.array_equal(drawn(adapters=[none, one, more], hybrid=hybrid), alone)
    assert np.array_equal(drawn(adapters=[none, more], hybrid=hybrid), drawn())


@pytest.mark.parametrize("hybrid", ["switch", "composite"])
def test_one_adapter_or_none_is_merge(hybrid: str) -> None:
    terms = [(random_adapter(1), 0.6)]
    assert np.array_equal(drawn(adapters=terms, hybrid=hybrid), drawn(adapters=terms))
    assert np.array_equal(drawn(hybrid=hybrid), drawn())


@pytest.mark.parametrize("hybrid", HYBRIDS)
def test_seeds_batches_and_pictures(hybrid: str) -> None:
    options: dict[str, Any] = {"adapters": [(random_adapter(1), 1.0), (random_adapter(2, every=2), 1.0)]}
    options["hybrid"] = hybrid
    assert np.array_equal(drawn(**options), drawn(**options))
    assert not same(drawn(**options, seed=4), drawn(**options))
    both = drawn(**options, seed=[3, 4], count=2)
    assert same(both[:1], drawn(**options, seed=[3]))
    assert same(both[1:], drawn(**options, seed=[4]))
    picture = Image.linear_gradient("L").convert("RGB").resize((32, 32))
    seen: list[tuple[int, int]] = []
    generator().generate(
        PROMPT, seed=1, steps=6, picture=picture, strength=0.5, on_step=lambda n, of, _: seen.append((n, of)), **options
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert generator().generate(PROMPT, seed=1, steps=4, on_step=lambda n, of, _: n < 2, **options) == []


@pytest.mark.parametrize("hybrid", HYBRIDS)
def test_every_back_end_draws_the_same(hybrid: str) -> None:
    options: dict[str, Any] = {"adapters": [(random_adapter(1), 1.0), (random_adapter(2, rank=2, every=2), 1.0)]}
    wanted = np.asarray(generator().generate(PROMPT, seed=7, steps=4, hybrid=hybrid, **options)[0], np.float32)
    with Generator.load(tiny_bundle(), threads=1, backend="openvino", precision="f32") as own:
        found = np.asarray(own.generate(PROMPT, seed=7, steps=4, hybrid=hybrid, **options)[0], np.float32)
    assert np.abs(found - wanted).max() <= 3


@pytest.mark.parametrize("hybrid", HYBRIDS)
def test_little_memory_draws_the_same(hybrid: str) -> None:
    """There is room for one of the four rows at a time."""
    weights = max(path.stat().st_size for path in generator().bundle.folder.rglob("model.onnx"))
    limit = PROCESS + 2 * weights + int(1.5 * working_set("unet", {"sample": np.zeros((1, 4, 16, 16), np.float32)}))
    terms = [(random_adapter(1), 1.0), (random_adapter(2, every=2), 1.0)]
    options: dict[str, Any] = {"adapters": terms, "steps": 3, "size": 64}
    seen: list[Latents] = []
    with Generator.load(tiny_bundle(), threads=1, memory_limit=limit) as own:
        own.generate(
            PROMPT, seed=3, count=2, guidance=4.0, scheduler="ddim", hybrid=hybrid,
            on_step=lambda step, of, x: seen.append(x), **options,
        )  # fmt: skip
    assert same(seen[-1], drawn(hybrid=hybrid, count=2, **options))


@pytest.mark.parametrize("hybrid", ["switch", "composite"])
def test_with_step_reuse_deep_features_stay_with_their_adapter(hybrid: str) -> None:
    terms = [(random_adapter(1, "sd2"), 1.0), (random_adapter(2, "sd2", every=2), 1.0)]
    feeds = [(number, to_feed([term], slots("sd2"))) for number, term in enumerate(terms)]
    found = drawn("sd2", adapters=terms, hybrid=hybrid, reuse=2, steps=6, latents=latents())
    if hybrid == "switch":
        # Both adapters have a whole run at every second of their turns.
        wanted = by_hand(lambda step: [feeds[step % 2]], "sd2", steps=6, whole=lambda step: step in (0, 1, 4, 5))
    else:
        wanted = by_hand(lambda step: feeds, "sd2", steps=6, whole=lambda step: step % 2 == 0)
    assert same(found, wanted)
    assert not same(found, drawn("sd2", adapters=terms, hybrid=hybrid, steps=6, latents=latents()))


def test_select_with_step_reuse_goes_on_with_the_last_whole_run() -> None:
    terms = [(random_adapter(1, "sd2"), 1.0), (random_adapter(2, "sd2", every=2), 1.0)]
    chosen = [step.branches[0].feed for step in HYBRIDS["select"](terms, slots("sd2"), range(6))]
    found = drawn("sd2", adapters=terms, hybrid="select", reuse=2, steps=6, latents=latents())
    wanted = by_hand(lambda step: [(0, chosen[step])], "sd2", steps=6, whole=lambda step: step % 2 == 0)
    assert same(found, wanted)


def test_what_cannot_be_combined_is_refused() -> None:
    one = random_adapter(1)
    with pytest.raises(ValueError, match="no hybrid 'blend'; choose one of merge, guide, switch, composite, select"):
        generator().generate(PROMPT, adapters=[(one, 1.0)], hybrid="blend")
    for terms in ([], [(one, 1.0)], [(one, 1.0), (random_adapter(2), 1.0), (random_adapter(3), 1.0)]):
        with pytest.raises(HybridUnsupported, match=f"two adapters, .*, not {len(terms)}: give two, or take merge"):
            generator().generate(PROMPT, adapters=terms, hybrid="select")
