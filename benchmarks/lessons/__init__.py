"""Owners, ways of learning and one lesson of benchmarks.learning."""
