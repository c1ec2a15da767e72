"""Guide: the adapters in the prediction with the prompt, the base model in the one without. See `guide`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import repeat

from edge_sdk.inference.adapters.hybrids.base import Branch, Step, Terms, active
from edge_sdk.inference.adapters.hybrids.merge import merge
from edge_sdk.inference.adapters.mixing import to_feed
from edge_sdk.inference.bundle import Slot


def guide(terms: Terms, slots: Mapping[str, Slot], steps: range) -> Iterator[Step]:
    """Guide the merged adapters away from the base model without a prompt: as many runs of the UNet as `merge`.

        e = e_0(x, "") + guidance (e_mix(x, prompt) - e_0(x, ""))

    So guidance strengthens the style as it does the subject; `merge` strengthens only what the prompt names. Without
    guidance the two are one. This is Domain Guidance (Zhong et al., arXiv 2504.01521) with adapters as the fine-tuned
    model.
    """
    if not active(terms):
        return merge(terms, slots, steps)
    base, mixed = Branch({}, prompted=False), Branch(to_feed(terms, slots), 1, unprompted=False)
    return repeat(Step([base, mixed]), len(steps))
