from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from edge_sdk.adapter import LAYER_SETS, Adapter, Factors, LayerSet, Share, beginning, complete, distance, norm, pack
from edge_sdk.errors import AdapterMismatch, AdapterValueError
from edge_sdk.training.base_model.unet import load_unet
from edge_sdk.training.lora import Slots
from export.source import slots_of
from tests.models import tiny_model

BASE = "the base"


@pytest.fixture
def slots() -> Slots:
    return Slots(load_unet(tiny_model()), BASE)


def some_adapter(slots: Slots, seed: int, rank: int = 2, base_id: str | None = BASE) -> Adapter:
    rng = np.random.default_rng(seed)
    return Adapter(
        {
            name: Factors(
                rng.normal(size=(rank, n_in)).astype(np.float32), rng.normal(size=(n_out, rank)).astype(np.float32)
            )
            for name, (n_in, n_out, _) in slots.shapes("attention").items()
        },
        base_id,
    )


def weights(slots: Slots) -> dict[str, torch.Tensor]:
    return {name: layer.weight.detach().clone() for name, layer in slots._layers.items()}


@contextmanager
def leaves_no_trace(slots: Slots) -> Iterator[None]:
    before, names = weights(slots), list(dict(slots._unet.named_modules()))
    yield
    assert list(dict(slots._unet.named_modules())) == names
    for name, weight in weights(slots).items():
        assert torch.equal(weight, before[name])


def test_slots_are_the_attention_projections(slots: Slots) -> None:
    names = list(slots.shapes("attention"))
    assert all(name.startswith("unet.") and ".attn" in name for name in names)
    assert {name.split(".attn")[1][2:] for name in names} == {"to_q", "to_k", "to_v", "to_out.0"}


def test_adapters_laid_on_are_weighted_sums_and_come_off_again(slots: Slots) -> None:
    x, y = some_adapter(slots, 1), some_adapter(slots, 2, rank=5)
    plain = responses(slots)
    with leaves_no_trace(slots), slots.laid_on([(x, 0.5), (y, -2.0)]):
        laid_on = responses(slots)
    for name, (given, before) in plain.items():
        change = 0.5 * x.layers[name].b @ x.layers[name].a - 2.0 * y.layers[name].b @ y.layers[name].a
        assert np.allclose(laid_on[name][1] - before, given @ change.T, atol=1e-3)
    after = responses(slots)
    assert all(np.array_equal(after[name][1], before) for name, (_, before) in plain.items())


def test_laying_on_does_not_touch_the_weights(slots: Slots) -> None:
    """In bfloat16 they are too coarse for the changes of an adapter."""
    before = weights(slots)
    with slots.laid_on([(some_adapter(slots, 1), 1.0)]):
        assert all(torch.equal(weight, before[name]) for name, weight in weights(slots).items())


def responses(slots: Slots) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A fixed input of every target layer, and the layer's output: (input, output)."""
    found = {}
    for name in slots.shapes("attention"):
        layer = slots._layers[name]
        given = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            found[name] = (given.numpy(), layer(given).numpy())
    return found


def test_training_starts_at_the_given_product_and_leaves_a_plain_unet(slots: Slots) -> None:
    start = some_adapter(slots, 3, rank=2)
    with leaves_no_trace(slots), slots.trained(start, 4, seed=0) as lora:
        assert len(lora.parameters) == 2 * len(slots.shapes("attention"))
        assert all(p.requires_grad and p.dtype == torch.float32 for p in lora.parameters.values())
        adapter = lora.adapter()
    assert adapter.base_id == BASE
    for name, factors in adapter.layers.items():
        assert factors.rank == 4
        assert np.allclose(factors.b @ factors.a, start.layers[name].b @ start.layers[name].a, atol=1e-6)


def test_a_wider_start_keeps_its_rank_and_missing_layers_start_afresh(slots: Slots) -> None:
    first = next(iter(slots.shapes("attention")))
    start = Adapter({first: some_adapter(slots, 4, rank=6).layers[first]}, BASE)
    with slots.trained(start, 2, seed=0) as lora:
        ranks = {name: factors.rank for name, factors in lora.adapter().layers.items()}
    assert ranks.pop(first) == 6
    assert set(ranks.values()) == {2}


def test_the_side_branch_computes_what_laying_on_computes(slots: Slots) -> None:
    """Training sees the adapter as PEFT's side branch, evaluation inside the weights: both must be the same model."""
    adapter = some_adapter(slots, 5)
    rng = torch.Generator().manual_seed(0)
    sample, t, prompt = (
        torch.randn(2, 4, 8, 8, generator=rng),
        torch.tensor([3, 700]),
        torch.randn(2, 32, 32, generator=rng),
    )
    with torch.no_grad():
        with slots.laid_on([(adapter, 1.0)]):
            inside = slots._unet(sample, t, prompt).sample
        with slots.trained(adapter, 2, seed=0):
            beside = slots._unet(sample, t, prompt).sample
        assert not torch.allclose(inside, slots._unet(sample, t, prompt).sample, atol=1e-2)
    assert torch.allclose(inside, beside, atol=1e-4)


def test_foreign_adapters_change_nothing(slots: Slots) -> None:
    first = next(iter(slots.shapes("attention")))
    good = some_adapter(slots, 6)
    factors = good.layers[first]
    foreign = some_adapter(slots, 6, base_id="another base")
    misshapen = Adapter({first: Factors(factors.a[:, :-1], factors.b)}, BASE)
    unknown = Adapter({"unet.nowhere.to_q": factors}, BASE)
    poisoned = Adapter({first: Factors(factors.a * np.float32("nan"), factors.b)}, BASE)
    for bad, error in (
        (foreign, AdapterMismatch),
        (misshapen, AdapterMismatch),
        (unknown, AdapterMismatch),
        (poisoned, AdapterValueError),
    ):
        with leaves_no_trace(slots), pytest.raises(error), slots.laid_on([(good, 1.0), (bad, 1.0)]):
            pass
        with leaves_no_trace(slots), pytest.raises(error), slots.trained(bad, 2, seed=0):
            pass


def every_layer(slots: Slots, rank: int = 3) -> Adapter:
    """As a LoCon file has them: factors on all linear layers and convolutions."""
    rng = np.random.default_rng(0)
    layers = {}
    for name, layer in slots._layers.items():
        out, *rest = layer.weight.shape
        a, b = rng.normal(size=(rank, int(np.prod(rest)))) / 10, rng.normal(size=(out, rank)) / 10
        kernel = (rest[1], rest[2]) if rest[1:] else None
        layers[name] = Factors(a.astype(np.float32), b.astype(np.float32), kernel)
    return Adapter(layers, BASE)


def test_shared_files_with_convolutions_lie_under_the_training(slots: Slots) -> None:
    adapter = every_layer(slots)
    assert {factors.kernel for factors in adapter.layers.values()} == {None, (1, 1), (3, 3)}
    rng = torch.Generator().manual_seed(0)
    given = (torch.randn(2, 4, 8, 8, generator=rng), torch.tensor([3, 700]), torch.randn(2, 32, 32, generator=rng))
    with torch.no_grad():
        plain = slots._unet(*given).sample
        with leaves_no_trace(slots), slots.laid_on([(adapter, 0.5)]):
            laid_on = slots._unet(*given).sample
            with slots.trained(None, 2, seed=0):  # B starts at zero
                assert torch.allclose(slots._unet(*given).sample, laid_on, atol=1e-5)
        before = weights(slots)
        for name, layer in slots._layers.items():
            factors = adapter.layers[name]
            layer.weight += 0.5 * torch.from_numpy(factors.b @ factors.a).reshape(layer.weight.shape)
        merged = slots._unet(*given).sample
        for name, layer in slots._layers.items():
            layer.weight.copy_(before[name])
    assert (merged - plain).abs().max() > 0.1
    assert torch.allclose(laid_on, merged, atol=1e-4)


def test_a_start_with_layers_that_are_not_trained_is_refused(slots: Slots) -> None:
    message = "is not trained with layers='attention'.*lay the adapter under the training as a frozen one"
    with leaves_no_trace(slots), pytest.raises(AdapterMismatch, match=message):
        slots.trained(every_layer(slots), 2, seed=0).__enter__()


@pytest.mark.parametrize("which", LAYER_SETS)
def test_the_layers_of_a_set_are_those_with_slots_in_a_bundle(slots: Slots, which: LayerSet) -> None:
    assert {name: str(shape) for name, shape in slots.shapes(which).items()} == {
        slot.name: str(slot.shape) for slot in slots_of(slots._unet, which)
    }


def test_sets_of_layers_grow(slots: Slots) -> None:
    attention, transformer, everything = (set(slots.shapes(which)) for which in LAYER_SETS)
    assert attention < transformer < everything == set(slots._layers)


def test_convolutions_are_trained_as_they_are_laid_on(slots: Slots) -> None:
    adapter = every_layer(slots, rank=2)
    rng = torch.Generator().manual_seed(0)
    given = (torch.randn(2, 4, 8, 8, generator=rng), torch.tensor([3, 700]), torch.randn(2, 32, 32, generator=rng))
    with torch.no_grad(), slots.laid_on([(adapter, 1.0)]):
        laid_on = slots._unet(*given).sample
    with leaves_no_trace(slots), slots.trained(adapter, 2, seed=0, layers="all") as lora:
        result = slots._unet(*given).sample
        assert torch.allclose(result, laid_on, atol=1e-4)
        result.square().mean().backward()
        assert len(lora.parameters) == 2 * len(slots._layers)
        assert all(parameter.grad is not None for parameter in lora.parameters.values())
        back = lora.adapter()
    assert {name: f.shape for name, f in back.layers.items()} == {name: f.shape for name, f in adapter.layers.items()}
    assert distance(back, adapter) < 1e-5 * norm(adapter)


@pytest.mark.parametrize("layers", ["attention", "all"])
@pytest.mark.parametrize("share", list(Share))
def test_only_what_is_shared_takes_gradients(slots: Slots, share: Share, layers: LayerSet) -> None:
    start = some_adapter(slots, 3) if layers == "attention" else every_layer(slots, rank=2)
    before = beginning(start, slots.shapes(layers), 2, 0, share)
    with slots.trained(start, 2, 0, share, layers) as lora:
        endings = {key.rsplit(".", 2)[1] for key in lora.parameters}
        assert (
            endings
            == {
                Share.BOTH: {"lora_A", "lora_B"},
                Share.A_ONLY: {"lora_A", "lora_B"},
                Share.A: {"lora_A"},
                Share.B: {"lora_B"},
                Share.CORE: {"lora_core"},
            }[share]
        )
        assert distance(lora.adapter(), start) < 1e-4 * norm(start)
        for parameter in lora.parameters.values():
            parameter.data += 0.1 * parameter.data.abs().mean()
        moved = lora.adapter()
    assert distance(moved, start) > 1e-3 * norm(start)
    if share is not Share.A_ONLY:
        assert distance(complete(pack(moved, before, share), before, share), moved) < 1e-4 * norm(moved)
