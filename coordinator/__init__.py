"""The coordinator: registers devices, runs rounds, clusters and aggregates adapters. Imports no torch.

The way of an update: `ingress` takes messages in, `transfers` puts the update together, `rounds` (a pure state machine)
decides whether it counts, `learning` computes clusters and adapters with `methods`, and `transfers` sends the result to
the devices. `server` binds all of this to a transport and a `store`. docs/architecture.md says who may import whom.
"""

from __future__ import annotations

import edge_sdk  # noqa: F401  # switches the telemetry of dependencies off before one is loaded
