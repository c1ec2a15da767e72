"""Device, the class that an app embeds; its home, its prior pictures, its end, and its drawing with helpers."""

from edge_sdk.device.assist import Assist, Assistance, draw_assisted
from edge_sdk.device.device import Device
from edge_sdk.device.forgetting import CANNOT_BE_TAKEN_BACK, forget
from edge_sdk.device.home import Home
from edge_sdk.device.prior import PriorNotDrawn

__all__ = ["CANNOT_BE_TAKEN_BACK", "Assist", "Assistance", "Device", "Home", "PriorNotDrawn", "draw_assisted", "forget"]
