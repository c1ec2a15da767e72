"""Clustering by sums with noise, for privacy level "local+dp": three questions, whose sums keep an (epsilon, delta).

Devices answer with integers of bounded length, each with a part of the noise (`edge_sdk.privacy.noise`). A pure state
machine over the unmasked sums. The modules, in the order of their use: `totals`, `cells`, `grouping`, `machine`,
`size`; `simulated` for simulations.
"""

from __future__ import annotations

from coordinator.methods.clustering.by_noisy_sums.machine import FEWEST, MOST, Groups, Plan, State, begin, step
from coordinator.methods.clustering.by_noisy_sums.simulated import summed_with_noise
from coordinator.methods.clustering.by_noisy_sums.size import fewest_devices
from coordinator.methods.clustering.by_noisy_sums.totals import Sum

__all__ = ["FEWEST", "MOST", "Groups", "Plan", "State", "Sum", "begin", "fewest_devices", "step", "summed_with_noise"]
