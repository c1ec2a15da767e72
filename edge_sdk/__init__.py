"""Impasto on the device: draw, learn from the owner's pictures, share adapters with a federation.

    from edge_sdk import Device

    device = Device(bundle="bundle/", model="model/", pictures="my_pictures/")
    device.generate("a fox").save("fox.png")
    device.learn(minutes=10)
    with device.join("mqtts://broker:8883", federation="stickers") as membership:
        membership.run(rounds=5)
    device.generate("a fox", adapters={"cluster": 0.7, "leaf": 1.0}).save("mine.png")

Names are imported when they are first used, so that `import edge_sdk` costs nothing and drawing never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from edge_sdk import libraries as _libraries

if TYPE_CHECKING:
    from edge_sdk.adapter import Adapter, Factors
    from edge_sdk.device import Assist, Assistance, Device
    from edge_sdk.errors import ImpastoError
    from edge_sdk.inference import Generator
    from edge_sdk.membership import Membership
    from edge_sdk.pictures import Picture, load_pictures
    from edge_sdk.training import Trainer, TrainingResult

# Telemetry is switched off before any of our modules loads a library that has some.
_libraries.switch_off()

__version__ = "0.1.0"
__all__ = [
    "Adapter",
    "Assist",
    "Assistance",
    "Device",
    "Factors",
    "Generator",
    "ImpastoError",
    "Membership",
    "Picture",
    "Trainer",
    "TrainingResult",
    "load_pictures",
]

_HOME = {
    "Adapter": "adapter",
    "Assist": "device",
    "Assistance": "device",
    "Device": "device",
    "Factors": "adapter",
    "Generator": "inference",
    "ImpastoError": "errors",
    "Membership": "membership",
    "Picture": "pictures",
    "Trainer": "training",
    "TrainingResult": "training",
    "load_pictures": "pictures",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'edge_sdk' has no attribute {name!r}")
    value = getattr(import_module(f"edge_sdk.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
