"""The training objective: noise a latent, predict epsilon or v, weigh the error.

With the cumulative signal a_t of timestep t, latent x and noise e:

    noised   x_t = sqrt(a_t) x + sqrt(1 - a_t) e            snr_t = a_t / (1 - a_t)
    epsilon  predict e                                       weight min(snr, gamma) / snr
    v        predict sqrt(a_t) e - sqrt(1 - a_t) x           weight min(snr, gamma) / (snr + 1)

Both give the error of the predicted x the weight min(snr, gamma): min-SNR-gamma, Hang et al., arXiv 2303.09556. For v,
they nearly vanish at high noise, where the colours of a style are decided. So v is not weighted by default;
docs/training.md has the measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from edge_sdk.errors import BundleError, TrainingError
from edge_sdk.inference.sampling import NoiseSchedule

Prediction = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True)
class Objective:
    """The noise schedule of a base model, and the quantity that its UNet predicts.

    Attributes:
        signal: a_t for every timestep t, shape (timesteps,), float32.
        prediction: the quantity that the UNet predicts, epsilon or v.
    """

    signal: Tensor
    prediction: Prediction

    @classmethod
    def of_model(cls, model: Path) -> Objective:
        """Read `scheduler/` of a diffusers folder, as drawing reads it.

        Raises:
            TrainingError: the base model was trained with another kind of noise, or predicts another quantity.
        """
        try:
            schedule = NoiseSchedule.of_model(model)
        except BundleError as error:
            raise TrainingError(f"{model} cannot be trained. {error}") from error
        return cls(torch.from_numpy(schedule.alphas).float(), schedule.prediction)

    @property
    def usual_gamma(self) -> float | None:
        """Default gamma for this prediction: 5 for epsilon, None (no weights) for v."""
        return 5.0 if self.prediction == "epsilon" else None

    @property
    def timesteps(self) -> int:
        return len(self.signal)

    def noised(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t of latents (n, c, h, w) at timesteps (n,)."""
        signal = self._at(t)
        return signal.sqrt() * latents + (1 - signal).sqrt() * noise

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Target of the UNet's prediction, shape (n, c, h, w)."""
        if self.prediction == "epsilon":
            return noise
        signal = self._at(t)
        return signal.sqrt() * noise - (1 - signal).sqrt() * latents

    def weights(self, t: Tensor, gamma: float | None) -> Tensor:
        """Min-SNR weights of timesteps (n,); ones if `gamma` is None."""
        if gamma is None:
            return torch.ones(len(t))
        signal = self.signal[t]
        # A schedule with zero terminal signal has snr 0 at its end: the limit of min(snr, gamma) / snr there is 1.
        snr = (signal / (1 - signal)).clamp(min=1e-8)
        return snr.clamp(max=gamma) / (snr if self.prediction == "epsilon" else snr + 1)

    def _at(self, t: Tensor) -> Tensor:
        return self.signal[t].view(-1, 1, 1, 1)
