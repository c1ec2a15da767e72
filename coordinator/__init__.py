"""The coordinator: registers devices, runs rounds, clusters and aggregates adapters. Imports no torch.

An update's way: `ingress` takes in what arrives, `transfers` puts it together, `rounds` (a pure machine) decides what
becomes of it, `learning` answers what the machine asks for with `methods`, and `transfers` hands the result out.
`server` binds all that to a transport and a `store`; docs/architecture.md says who may import whom.
"""

from __future__ import annotations

import edge_sdk  # noqa: F401  # switches the telemetry of dependencies off before one is loaded
