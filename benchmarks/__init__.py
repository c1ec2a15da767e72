"""Every number of the README and the docs, each by one command: `python -m benchmarks.NAME [--quick] [--json FILE]`.

harness.py        shared by all: arguments, the machine, bars, the file of results
inference.py      drawing at real shapes against other libraries (docs/benchmarks.md)
rivals.py         one row of it in a process of its own; rival_models.py its models, environments.py its packages
drawings.py       whole drawings in processes of their own
stickers.py       the stickers base model, as benchmarks use it
architectures.py  shapes of base models
base_models.py    base models of these shapes with random weights
memory.py         memory of a process
models.py         every family of base models at its true size: exported, verified, drawn (docs/benchmarks.md)
one_model.py      one of them, one task at a time, in a process of its own
quality.py        effect of precisions, back ends and step reuse on pictures
limits.py         the processor's fastest matrix products
federation.py     methods of learning together; federated_world.py its devices, federated_arms.py its rows,
                  federated_seconds.py the coordinator's time
byzantine.py      damage by lying devices, by filter; attacks.py their updates, byzantine_world.py one federation of it
runs.py           the runs of these two: each kept, a process for each core; learnt.py the results of their devices
hybrids.py        two styles in one picture (docs/inference.md)
clustering.py     recovery of known groups, up to 10,000 devices (docs/clustering.md); tastes.py its federations,
                  crowds.py the coordinator's cost of 10,000 devices
transport.py      our path against raw paho and Flower; transport_*.py its processes, flower_app/ its Flower app
chaos.py          a federation under kill -9 and line faults; chaos_world.py its processes, chaos_device.py a device,
                  chaos_audit.py the audit afterwards
tables.py         docs/benchmarks.md's generated parts, from results/; federation_tables.py, byzantine_tables.py,
                  network_tables.py; markdown.py their form
plots.py          plots of results
results/          measured figures, with machine and date
"""

import edge_sdk  # noqa: F401  # switches the telemetry of dependencies off before one is loaded
