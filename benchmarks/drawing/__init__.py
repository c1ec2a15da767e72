"""Rows of benchmarks.inference: each library in a process of its own."""
