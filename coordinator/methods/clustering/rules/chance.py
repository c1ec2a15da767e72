"""The mean silhouette that counts as structure, by the number of dimensions in which devices are compared.

In few dimensions points without groups look grouped. Measured with the stickers model's text encoder, 16 captions a
device, 30 federations each of 6 to 24 devices: codes of level "coarse" of devices of one style, each with its favourite
subjects, reach a silhouette of .23 to .28 in the median (90th percentile .29 to .39); those of four styles, half of the
captions without style words, .59 to .61 (10th percentile .52 to .59), but .36 with 6 devices, of which few share a
style.
"""

from __future__ import annotations

from coordinator.methods.clustering.dense import LEAST_TRAINED
from coordinator.methods.clustering.evidence import Blend, Evidence

# "No substantial structure" below it (Kaufman and Rousseeuw 1990, ch. 2).
LEAST_SILHOUETTE = 0.25
# The same where prompt codes alone are compared, in at most `FEW` dimensions.
LEAST_IN_FEW = 0.45
FEW = 32


def least_silhouette(evidence: Evidence, blend: Blend) -> float:
    """Return the least mean silhouette of devices with groups, for this evidence and these weights.

    Adapters are compared in many dimensions: chance falls with their weight.
    """
    if evidence.codes.shape[1] > FEW:
        return LEAST_SILHOUETTE
    weight = blend.prompt + (blend.adapter if evidence.trained.sum() < LEAST_TRAINED else 0.0)
    return max(LEAST_SILHOUETTE, weight * LEAST_IN_FEW)
