"""Every number of the README and the docs, each by one command: `python -m benchmarks.NAME [--quick] [--json FILE]`.

A module is a command; a folder holds what one or several of them need.

inference.py      drawing at real shapes against other libraries (docs/benchmarks/); drawing/ its rows
models.py         every family of base models at its true size: exported, verified, drawn; families/ the models
assist.py         drawing with a helper, and with helpers that fail; assisted/ its processes and pictures
quality.py        effect of precisions, back ends and step reuse on pictures
hybrids.py        two styles in one picture (docs/inference.md); mixtures/ its ways and pictures
learning.py       learning a style from few pictures, by what is drawn afterwards; lessons/ its owners and rows
federation.py     methods of learning together; federated/ its devices, rows and times
privacy.py        attacks on codes; attacks/ their ways, and the devices
byzantine.py      damage by lying devices, by filter; lying/ their updates and one federation
clustering.py     recovery of known groups, up to 10,000 devices (docs/clustering.md); crowd/ its federations
secure_sum.py     masked sums against Flower's SecAgg+; summing/ both sides
transport.py      our path against raw paho and Flower; network/ its processes
idle.py           cost of 10,000 devices that wait; network/ its devices
base_id.py        base ids at true size
chaos.py          a federation under kill -9 and line faults; network/ its processes and the audit
tables.py         the generated parts of docs/benchmarks/; report/ their form
plots.py          plots of results
shared/           arguments, machine, control groups, bars, results, kept runs, the stickers base model
results/          measured figures, with machine and date
"""

import edge_sdk  # noqa: F401  # switches the telemetry of dependencies off before one is loaded
