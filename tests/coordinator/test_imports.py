"""The coordinator is slim: no deep-learning or inference library is loaded, whatever is installed."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "diffusers", "transformers", "peft", "accelerate", "onnx", "onnxruntime", "PIL", "tokenizers")


def test_the_coordinator_imports_no_torch() -> None:
    program = (
        "import sys, coordinator.cli, coordinator.learning.aggregate, edge_sdk.membership\n"
        "import edge_sdk.transport.mqtt.transport\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.strip() == "[]"


def test_a_coordinator_starts_without_what_takes_long_to_load() -> None:
    program = "import sys, coordinator.cli\nprint([name for name in ('scipy', 'sklearn') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.strip() == "[]"


def test_a_device_can_be_a_member_without_the_coordinators_libraries() -> None:
    foreign = (*HEAVY[:6], "sklearn", "scipy", "sqlalchemy", "fsspec", "coordinator")
    program = (
        "import sys, edge_sdk.membership, edge_sdk.transport.mqtt.transport\n"
        f"print([name for name in {foreign!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.strip() == "[]"


def test_many_devices_are_grouped_without_scikit_learn() -> None:
    """It would cost a coordinator 46 MB from the 257th device on."""
    program = (
        "import sys, numpy\n"
        "from coordinator.methods.clustering import MOST_DENSE, Blend, Evidence, coarse\n"
        "codes = numpy.random.default_rng(0).normal(size=(MOST_DENSE + 50, 16)).astype(numpy.float32)\n"
        "crowd = coarse(Evidence(codes, [None] * len(codes), 0), Blend(1.0, 0.0))\n"
        "print('sklearn' in sys.modules, not crowd.exact)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.split() == ["False", "True"]
