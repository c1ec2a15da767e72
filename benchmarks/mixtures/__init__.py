"""Ways of drawing with two adapters, and the pictures of benchmarks.hybrids."""
