"""Guesses at a device's style and favourite group of subjects from its code: the nearest of those that it may have."""

from __future__ import annotations

import numpy as np

from benchmarks.attacks.captions import Matrix, World


class Guesses:
    """The codes that devices of each style and group would have on average.

    Args:
        known: the candidates.
        features: (candidates, k) their own codes.
        named: share of a device's captions that name its style.
    """

    def __init__(self, known: World, features: Matrix, named: float = 1.0) -> None:
        groups, bare = range(len(known.groups)), len(known.styles)
        own = known.group_of[known.of_style[bare]]
        self._styles = np.empty((len(known.styles), features.shape[1]))
        self._pairs = np.empty((len(known.styles), len(known.groups), features.shape[1]))
        for style in range(len(known.styles)):
            mixed = named * features[known.of_style[style]] + (1 - named) * features[known.of_style[bare]]
            self._styles[style] = mixed.mean(axis=0)
            for group in groups:
                self._pairs[style, group] = 0.5 * (self._styles[style] + mixed[own == group].mean(axis=0))
        self._mean = self._styles.mean(axis=0)

    def style(self, code: Matrix) -> int:
        """Return the style whose direction from the mean of all is nearest to the code's."""
        own, others = code - self._mean, self._styles - self._mean
        return int((others @ own / np.maximum(np.linalg.norm(others, axis=1), 1e-12)).argmax())

    def group(self, code: Matrix) -> int:
        """Return the group of subjects whose devices of the guessed style have the nearest code."""
        return int(np.linalg.norm(self._pairs[self.style(code)] - code, axis=1).argmin())
