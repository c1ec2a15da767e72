"""Synthetic federations of known groups, and the cost of ten thousand devices, for benchmarks.clustering."""
