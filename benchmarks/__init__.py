"""Every number of the README and the docs, each by one command: `python -m benchmarks.NAME [--quick] [--json FILE]`.

harness.py        what they share: arguments, the machine, bars, the file of results
quantization.py   bundles in float16 and int8 against float32
results/          what was measured, with machine and date
"""
