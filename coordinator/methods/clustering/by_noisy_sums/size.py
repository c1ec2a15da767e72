"""The fewest devices with which clusters can be found at an epsilon."""

from __future__ import annotations

# Epsilon -> fewest devices, whose groups are still found: docs/benchmarks/privacy.md.
_FEWEST = ((8.0, 48), (4.0, 100), (1.0, 500))


def fewest_devices(epsilon: float) -> int:
    """Return the fewest devices before a clustering begins: those of the next smaller epsilon that was measured."""
    return next((devices for least, devices in _FEWEST if epsilon >= least), _FEWEST[-1][1])
