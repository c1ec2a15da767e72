"""Tables of docs/benchmarks.md, made of results; `benchmarks.tables` writes them."""
