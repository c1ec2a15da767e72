"""The two sides of benchmarks.secure_sum: our masked sums, and Flower's SecAgg+ in an environment of its own."""
