"""A federation of level "local+dp": its clusters are found by sums with noise, over a real broker.

The file's limit holds in tests, too: 48 devices at epsilon 8, of two tastes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.errors import PrivacyRefused
from edge_sdk.membership import runner, spent_budget
from edge_sdk.privacy import Guarantee, Question, bounded_answer, nearest_centroid, noisy_answer, places_of
from tests.integration.coordinators import Coordinator
from tests.integration.devices import Device
from tests.integration.local import code_of, write_local

DEVICES = 48
GUARANTEE = Guarantee(epsilon=8.0, delta=1e-5)


def write_noisy(folder: Path, broker: str) -> Path:
    path = write_local(folder, broker, devices=DEVICES, patience=100.0, more="\n[clustering]\nclusters = 2\n")
    path.write_text(path.read_text().replace('"local"', '"local+dp"\nepsilon = 8'))
    return path


def test_devices_find_their_groups_under_noise_and_pay_for_it_once(
    embedded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them allows less, and says nothing to anybody."""
    noise: list[float] = []

    def noted(question: Question, code: bytes, variance: int) -> object:
        made = noisy_answer(question, code, variance)
        away = made.view(np.int32) - bounded_answer(question, code)
        noise.extend((away / variance**0.5).tolist())
        return made

    monkeypatch.setattr(runner, "noisy_answer", noted)
    coordinator = Coordinator(write_noisy(tmp_path, embedded))
    members = [
        Device(number, embedded, tmp_path / f"device-{number}", local=True, epsilon=8.0).start()
        for number in range(DEVICES)
    ]
    strict = Device(DEVICES, embedded, tmp_path / "strict", local=True, epsilon=4.0).start().join()
    for device in members:
        device.join(400.0)
    coordinator.join()
    assert isinstance(strict.error, PrivacyRefused)
    assert "answers of epsilon 8" in str(strict.error)
    assert [device.error for device in members] == [None] * DEVICES
    found = places_of(coordinator.service.state.alone.centroids)
    clusters = [device.result.cluster for device in members if device.result]
    assert clusters == [nearest_centroid(code_of(device), found) for device in members]
    assert len({(device.group, cluster) for device, cluster in zip(members, clusters, strict=True)}) == 2
    (said,) = coordinator.named("clusters_found")
    assert (said["clusters"], said["questions"]) == (2, 4)
    assert said["counts"] == pytest.approx([24, 24], abs=20), "with noise"
    (closed,) = coordinator.named("round_closed")
    assert closed["updates"] == DEVICES
    for device in members:
        spent = spent_budget(device.home)
        assert (spent.answers, spent.epsilon) == (4, pytest.approx(8.0))
        told = [event["epsilon"] for event in device.events if event["event"] == "budget_spent"]
        assert told == sorted(told)
        assert told[-1] == pytest.approx(8.0)
        assert "question_refused" not in [event["event"] for event in device.events]
    assert spent_budget(strict.home).answers == 0
    assert len(noise) == DEVICES * (17 + 137 + 12 * 17 + 2 * 17)
    assert np.std(noise) == pytest.approx(1.0, abs=0.05)
