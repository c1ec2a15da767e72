"""Several trainers in threads of one process."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from edge_sdk.training import Trainer
from edge_sdk.training.threads import math_attention
from tests.models import tiny_model
from tests.training.samples import squares

TRAINERS = 4


def switches() -> tuple[bool, ...]:
    """torch's switches of attention kernels, which are of the whole process."""
    attention = torch.backends.cuda
    return attention.math_sdp_enabled(), attention.flash_sdp_enabled(), attention.mem_efficient_sdp_enabled()


def test_trainers_in_threads_learn_what_one_does_by_itself() -> None:
    def losses(_: int = 0) -> tuple[float, float]:
        stats = Trainer(tiny_model(), squares(6), rank=4, threads=1).train(steps=3).stats
        return stats.first_loss, stats.last_loss

    before, alone = switches(), losses()
    with ThreadPoolExecutor(TRAINERS) as pool:
        assert list(pool.map(losses, range(TRAINERS))) == [alone] * TRAINERS
    assert switches() == before
    assert losses() == alone


def test_the_switches_are_put_back_when_the_last_one_leaves() -> None:
    before = switches()
    entered, left = threading.Event(), threading.Event()

    def second() -> None:
        with math_attention():
            entered.set()
            assert left.wait(60)

    with ThreadPoolExecutor(1) as pool:
        with math_attention():
            job = pool.submit(second)
            assert entered.wait(60)
        assert switches() == (True, False, False), "the second one is still inside"
        left.set()
        job.result(60)
    assert switches() == before
