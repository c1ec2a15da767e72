"""Processes of benchmarks.transport and benchmarks.chaos: devices, players, Flower, the audit."""
