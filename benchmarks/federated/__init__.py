"""Devices, rows and times of benchmarks.federation."""
