"""The coordinator: registers devices, runs rounds, clusters and aggregates adapters. Imports no torch.

The way of the data: `service` binds the pure round machine of `rounds` to a transport and a `store`; the `learning`
module answers what the machine asks for with `clustering`, `aggregation` and `interaction`.
"""

from __future__ import annotations

import edge_sdk  # noqa: F401  # switches the telemetry of dependencies off before one is loaded
