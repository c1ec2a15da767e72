"""Every number of the README and the docs, each by one command: `python -m benchmarks.NAME [--quick] [--json FILE]`.

harness.py        what they share: arguments, the machine, bars, the file of results
inference.py      drawing at real shapes against other libraries (docs/benchmarks.md)
rivals.py         one row of it in a process of its own; rival_models.py what it opens, environments.py its packages
drawings.py       whole drawings in processes of their own
stickers.py       the stickers base model, as benchmarks use it
architectures.py  shapes of base models
base_models.py    base models of these shapes with random weights
memory.py         how much memory a process takes
models.py         every family of base models at its true size: exported, verified, drawn (docs/benchmarks.md)
one_model.py      one of them, one thing at a time, in a process of its own
quality.py        precisions, back ends and step reuse: what they do to pictures
limits.py         how fast the processor multiplies matrices
federation.py     methods of learning together; federated_world.py its devices, federated_arms.py its rows
byzantine.py      what lying devices do, by filter; attacks.py what they send, byzantine_world.py one federation of it
runs.py           the runs of these two: each kept, a process for each core; learnt.py what devices have learnt in them
hybrids.py        two styles in one picture (docs/inference.md)
clustering.py     who is grouped with whom, up to 10,000 devices (docs/clustering.md); tastes.py its federations
tables.py         docs/benchmarks.md's generated parts, from results/; federation_tables.py, byzantine_tables.py;
                  markdown.py their form
plots.py          pictures of results
results/          what was measured, with machine and date
"""

import edge_sdk  # noqa: F401  # switches the telemetry of dependencies off before one is loaded
