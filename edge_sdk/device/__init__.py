"""Device, the class that an app embeds; the files of its home; the prior pictures that it learns beside; its end."""

from edge_sdk.device.device import Device
from edge_sdk.device.forgetting import CANNOT_BE_TAKEN_BACK, forget
from edge_sdk.device.prior import PriorNotDrawn

__all__ = ["CANNOT_BE_TAKEN_BACK", "Device", "PriorNotDrawn", "forget"]
