"""Select: one of two adapters in each layer (K-LoRA). Source: Ouyang et al., arXiv 2502.18461.

The first adapter is the paper's content, the second its style. In a layer that both have,

    S = sum of the k largest |B A|,   k = r_content r_style,
    content as long as S_content > gamma (alpha t / T + beta) S_style,   else style,

with t of T steps done, alpha = 1.5, beta = 0.5, and gamma the mean over layers of (sum |B A| of content over that of
style), which evens out adapters of different size. So content leads early, style late. Each is used at its own weight;
weights do not change the choice, since gamma cancels them.

Gamma is as in the authors' code (github.com/HVision-NKU/K-LoRA). Chosen here: a layer that only one adapter has is
that adapter's; layers where the style is zero do not count for gamma; t counts steps of a whole drawing, so that a
drawing from a picture begins at the step that fits its noise; alpha t / T + beta is the same for all layers of a step.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from edge_sdk.adapter import Adapter, Factors
from edge_sdk.errors import HybridUnsupported
from edge_sdk.inference.adapters.hybrids.base import Branch, Step, Terms, active
from edge_sdk.inference.adapters.hybrids.merge import merge
from edge_sdk.inference.adapters.mixing import Feed, to_feed
from edge_sdk.inference.bundle import Slot

ALPHA, BETA = 1.5, 0.5


def select(terms: Terms, slots: Mapping[str, Slot], steps: range) -> Iterator[Step]:
    """Draw with one of two adapters in each layer, chosen anew at each step; one run at each step. See the module.

    With step reuse, deep layers keep the choice of the last whole run.

    Raises:
        HybridUnsupported: there are not two adapters.
    """
    taking_part = active(terms)
    if len(terms) < 2 or len(taking_part) > 2:
        raise HybridUnsupported(
            f"The hybrid select chooses between two adapters, content first and style second, not {len(terms)}: "
            "give two, or take merge, switch or composite."
        )
    if len(taking_part) < 2:
        return merge(terms, slots, steps)
    (content, _), (style, _) = taking_part
    leads = content_leads(content, style)
    feeds = [to_feed([term], slots) for term in taking_part]
    return (Step([Branch(_chosen(feeds, slots, leads, ALPHA * step / steps.stop + BETA))]) for step in steps)


def content_leads(content: Adapter, style: Adapter) -> dict[str, float]:
    """S_content / (gamma S_style) by layer of either adapter; content has a layer while the scale is below it."""
    shared = [name for name in content.layers if name in style.layers]
    sizes = {name: _sizes_of_pair(name, content, style) for name in shared}
    ratios = [ours.total / theirs.total for ours, theirs in sizes.values() if theirs.total]
    gamma = sum(ratios) / len(ratios) if ratios else 1.0
    leads = dict.fromkeys(content.layers, np.inf) | dict.fromkeys(style.layers, 0.0)
    for name, (ours, theirs) in sizes.items():
        if ours.top:
            leads[name] = ours.top / (gamma * theirs.top) if theirs.top else np.inf
    return leads


@dataclass(frozen=True)
class LayerSize:
    """Size of a layer's product |B A|.

    Attributes:
        top: sum of its k largest elements.
        total: sum of all its elements.
    """

    top: float
    total: float


# Adapter -> (layer, k) -> its size: two numbers per layer, kept as long as the adapter lives.
_known: WeakKeyDictionary[Adapter, dict[tuple[str, int], LayerSize]] = WeakKeyDictionary()
_lock = threading.Lock()


def layer_size(adapter: Adapter, layer: str, k: int) -> LayerSize:
    """Size of a layer's product, computed at the first call for this adapter object and k; the product is not kept."""
    with _lock:
        known = _known.setdefault(adapter, {})
        found = known.get((layer, k))
    if found is None:
        found = known[layer, k] = _measured(adapter.layers[layer], k)
    return found


def _sizes_of_pair(layer: str, content: Adapter, style: Adapter) -> tuple[LayerSize, LayerSize]:
    k = content.layers[layer].rank * style.layers[layer].rank
    return layer_size(content, layer, k), layer_size(style, layer, k)


def _measured(factors: Factors, k: int) -> LayerSize:
    elements = (factors.b @ factors.a).ravel()
    np.abs(elements, out=elements)
    total = float(elements.sum(dtype=np.float64))
    if k >= elements.size:
        return LayerSize(total, total)
    elements.partition(elements.size - k)
    return LayerSize(float(elements[-k:].sum(dtype=np.float64)), total)


def _chosen(feeds: Sequence[Feed], slots: Mapping[str, Slot], leads: Mapping[str, float], scale: float) -> Feed:
    """Inputs of the content in the layers where its lead is above the scale, of the style elsewhere."""
    content, style = feeds
    chosen: Feed = {}
    for name, lead in leads.items():
        source = content if lead > scale else style
        chosen |= {key: source[key] for key in (slots[name].input_a, slots[name].input_b)}
    return chosen
