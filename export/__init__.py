"""Export of a diffusers pipeline to a bundle that devices draw with, verified against torch.

source/       a base model as it is read: a diffusers folder or hub id to checked networks in torch
graphs/       changes of their ONNX graphs: attention kernels, LoRA slots, names, step reuse
precision/    a bundle in float16 or int8
verify.py     the written graphs against torch, without and with an adapter
public_captions.py public captions for the basis of prompt codes: the model's own, or a grammar's
basis.py      the public basis of prompt codes, of public captions
current.py    is a bundle still what an export would make?
lines.py      text files with a text a line
bundle.py     the whole export, in order, into one folder
cli.py        `impasto-export MODEL OUT`

Names are imported on first use, so that `impasto-export --help` need not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import edge_sdk  # noqa: F401  # switches the telemetry of dependencies off before one is loaded

if TYPE_CHECKING:
    from export.bundle import Exported, export_model
    from export.current import is_current

__all__ = ["Exported", "export_model", "is_current"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'export' has no attribute {name!r}")
    if name == "is_current":  # needs no torch
        from export.current import is_current

        return is_current
    from export import bundle

    return getattr(bundle, name)
