"""Tests, in folders that mirror the packages."""

import edge_sdk  # noqa: F401  # switches the telemetry of dependencies off before one is loaded
