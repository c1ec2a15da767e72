"""Every number of the README and the docs, each by one command: `python -m benchmarks.NAME [--quick] [--json FILE]`.

harness.py        what they share: arguments, the machine, bars, the file of results
inference.py      drawing at real shapes against other libraries (docs/benchmarks.md)
rivals.py         one row of it in a process of its own
architectures.py  base models of true shapes with random weights
quantization.py   bundles in float16 and int8 against float32
tables.py         docs/benchmarks.md's generated parts, from results/
results/          what was measured, with machine and date
"""
