"""Samples of apps and set-ups: a quickstart, a demo, a trained model, a broker, a method of one's own."""

import edge_sdk  # noqa: F401  # switches the telemetry of dependencies off before one is loaded
