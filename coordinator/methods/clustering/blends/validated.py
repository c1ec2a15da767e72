"""Clustering by the evidence whose groups training confirms (the default).

Captions may name a style or not, and an image encoder may see it or not: no kind of evidence is right for all
federations. Adapters tell little of a single device, but much of a grouping: if its groups are tastes, what training
changed is more alike inside groups than between them. Before any training, picture codes decide if most devices have
one, otherwise prompt codes. Then the candidates `picture`, `fused` and `prompt` group the devices, and each grouping is
scored by the adapters (`validation`). The choice that the present clusters came from stays unless another one is
clearly better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from coordinator.methods.clustering.blends.base import Decision, Grouping
from coordinator.methods.clustering.blends.fused import Fused, prompt_weight
from coordinator.methods.clustering.blends.picture import ByPicture
from coordinator.methods.clustering.blends.prompt import ByPrompt
from coordinator.methods.clustering.compare import MOST_DENSE, compare
from coordinator.methods.clustering.evidence import Blend, Evidence, Labels
from coordinator.methods.clustering.points import nearness
from coordinator.methods.clustering.validation import agreement, score, subspace_similarity

LEAST_SCORED = 8  # devices with an adapter; permutations of fewer differ too little
# Another candidate must score higher by this much, and by this share of the present one's score. Of groups without
# relation to the adapters, scores are about standard normal.
LEAST_BETTER, SHARE_BETTER = 3.0, 0.25


class Validated(Grouping, frozen=True, kw_only=True):
    """Picture codes, prompt codes, or prompt codes and adapters: those whose groups the adapters confirm.

    Attributes:
        choose: rule that finds the number of clusters by prompt codes and adapters; by picture codes it is "bic".
    """

    sees_pictures: ClassVar[bool] = True

    method: str = "validated"

    def __call__(self, evidence: Evidence) -> Blend:
        weight = prompt_weight(evidence.rounds)
        return Blend(prompt=weight, adapter=1.0 - weight)

    def decide(self, evidence: Evidence, clusters: Sequence[int | None]) -> Decision:
        candidates = self._candidates(evidence)
        trained = np.flatnonzero(evidence.trained)
        if evidence.rounds < 1 or len(trained) < LEAST_SCORED:
            return Decision(candidates[0], figures={"evidence": candidates[0].method})
        if len(trained) > MOST_DENSE:
            trained = np.sort(np.random.default_rng(0).choice(trained, MOST_DENSE, replace=False))
        sample = evidence.some(trained)
        halves = sample.halves()
        adapters = [subspace_similarity(half) for half in halves]
        before = [clusters[int(device)] for device in trained]
        scores, likeness = [], []
        for candidate in candidates:
            # A grouping by the adapters' even layers is scored by their odd ones, and the other way round.
            seen = [sample, *(halves if candidate(sample).adapter else ())]
            found = [candidate.labels(compare(one, candidate(one)), len(set(before) - {None})) for one in seen]
            likeness.append(agreement(found[0], before))
            even, odd = found[-2:] if len(found) > 1 else found * 2
            scores.append((score(even, adapters[1]) + score(odd, adapters[0])) / 2)
        kept = int(np.argmax(likeness))  # the first one if nothing tells them apart
        best = int(np.argmax(scores))
        clearly = scores[best] > scores[kept] + max(LEAST_BETTER, SHARE_BETTER * scores[kept])
        chosen = candidates[best if clearly else kept]
        figures = {candidate.method: round(value, 2) for candidate, value in zip(candidates, scores, strict=True)}
        return Decision(chosen, new=clearly, figures={"evidence": chosen.method, "scores": figures})

    def place(self, evidence: Evidence, clusters: Labels) -> int:
        """Place a device by the codes by which more of the placed devices are nearest to their own cluster."""
        if evidence.pictures is None or not (evidence.mostly_pictured and evidence.pictured[-1]) or not len(clusters):
            return super().place(evidence, clusters)
        known = evidence.pictured[:-1]
        _, labels = np.unique(clusters, return_inverse=True)
        groups = int(labels.max()) + 1
        pictures = nearness(evidence.pictures[:-1][known], labels[known], groups).argmax(axis=1) == labels[known]
        prompts = nearness(evidence.codes[:-1], labels, groups).argmax(axis=1) == labels
        if prompts.mean() > pictures.mean():
            return super().place(evidence, clusters)
        return ByPicture().place(evidence, clusters)

    def _candidates(self, evidence: Evidence) -> list[Grouping]:
        """Return the candidates that there is evidence for, the preferred one first."""
        fused = Fused(
            clusters=self.clusters, choose=self.choose, min_cluster=self.min_cluster, recluster=self.recluster
        )
        prompt = ByPrompt(
            clusters=self.clusters, choose=self.choose, min_cluster=self.min_cluster, recluster=self.recluster
        )
        if not evidence.mostly_pictured:
            return [fused, prompt]
        picture = ByPicture(clusters=self.clusters, min_cluster=self.min_cluster, recluster=self.recluster)
        return [picture, fused, prompt]
