"""Device, the class that an app embeds; the files of its home; the prior pictures that it learns beside."""

from edge_sdk.device.device import Device
from edge_sdk.device.prior import PriorNotDrawn

__all__ = ["Device", "PriorNotDrawn"]
