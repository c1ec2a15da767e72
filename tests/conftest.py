"""Set-up of all tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from tests.models import SESSION


def pytest_configure(config: pytest.Config) -> None:
    """One folder of tiny models for the workers of a session, which get its name from the process that starts them."""
    if not hasattr(config, "workerinput"):
        os.environ[SESSION] = tempfile.mkdtemp(prefix="impasto-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(SESSION), ignore_errors=True))


# The files that take longest, the longest first: begun last, one of them would keep a worker busy while others have
# nothing left to do.
_LONG = (
    "samples/test_demo.py", "inference/test_families.py", "test_telemetry.py", "benchmarks/test_models.py",
    "export/test_quantization.py", "export/test_cli.py", "benchmarks/test_byzantine.py", "inference/test_generator.py",
    "coordinator/simulation/test_offline.py", "export/test_options.py", "export/test_convolutions.py",
    "inference/test_hybrids.py", "test_cli.py", "membership/test_masked_machines.py", "samples/test_stickers.py",
    "coordinator/learning/test_validated.py", "export/test_image_encoder.py",
    "coordinator/learning/test_picture_codes.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; needs --no-loadscope-reorder, as xdist would put those with many tests first."""
    order = {Path(__file__).parent / name: number for number, name in enumerate(_LONG)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def _pin_to_a_core(worker: str | None) -> None:
    """Workers of pytest-xdist ("gw0", "gw1", …) keep to a core each: threads of two that fight for the same cores spend
    most of their time waiting."""
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


# torch's threads wait for each other after every operation: on tiny models and a busy machine that costs minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
_pin_to_a_core(os.environ.get("PYTEST_XDIST_WORKER"))

# Examples have no time limit of their own: this suite runs on slow and busy machines.
settings.register_profile("impasto", deadline=None)
settings.load_profile("impasto")
