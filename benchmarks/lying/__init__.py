"""Updates of lying devices, and one federation with them, for benchmarks.byzantine."""
