"""The telemetry of dependencies, switched off before they are loaded, unless the owner has asked for it.

Importing `edge_sdk`, `export` or `coordinator` does this, in every process and before anything else.

ONNX Runtime (from 1.29 on) looks up a host and keeps a device id in the user's cache as soon as it is loaded. OpenVINO
reports every import to Google Analytics, and keeps a client id in the user's home. The Hugging Face libraries send the
versions of installed packages with every request. docs/security.md says how an owner switches each on again.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

# The libraries' own environment variables.
SETTINGS = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_OPENVINO = "openvino_telemetry"


class TelemetryWarning(UserWarning):
    """A dependency was loaded before Impasto could switch its telemetry off."""


def switch_off() -> None:
    """Switch off the telemetry of every dependency that has some, unless the owner has set it otherwise.

    Child processes inherit the settings.

    Warns:
        TelemetryWarning: a library with telemetry was imported before, and reports already.
    """
    early = []
    if "onnxruntime" in sys.modules and not os.environ.get("ORT_DISABLE_TELEMETRY"):
        early.append("onnxruntime")
    for name, value in SETTINGS.items():
        # An empty variable counts as not set.
        os.environ[name] = os.environ.get(name) or value
    if not _agreed_to_openvino():
        if sys.modules.get(_OPENVINO) is not None:
            early.append("openvino")
        else:
            # OpenVINO's has no variable. None makes openvino treat the package as missing, for which it has a stub.
            sys.modules[_OPENVINO] = None  # type: ignore[assignment]
    if early:
        warnings.warn(
            f"{' and '.join(early)} was imported before edge_sdk, which switches its telemetry off: import edge_sdk "
            "first, or set ORT_DISABLE_TELEMETRY=1 in the environment.",
            TelemetryWarning,
            stacklevel=3,
        )


def _agreed_to_openvino() -> bool:
    """True if the owner has agreed, by OpenVINO's own command `opt_in_out --opt_in`."""
    try:
        folder = Path(os.environ["LOCALAPPDATA"], "Intel Corporation") if os.name == "nt" else Path.home() / "intel"
        return (folder / _OPENVINO).read_text("utf-8").strip() == "1"
    except (OSError, KeyError, RuntimeError, UnicodeDecodeError):  # no such file, no home folder
        return False
