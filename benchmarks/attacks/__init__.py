"""Attacks on what devices of a federation send, for benchmarks.privacy: each takes the part of somebody who sees it."""
