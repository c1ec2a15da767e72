"""Tables of docs/benchmarks/, made of results; `benchmarks.tables` writes them."""
