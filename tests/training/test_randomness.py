from __future__ import annotations

import torch

from edge_sdk.training.randomness import Draws, evaluation_draw

SHAPE = (4, 8, 8)


def draws(key: str = "run", pictures: int = 5, batch_size: int = 8, caption_dropout: float = 0.0) -> Draws:
    return Draws(key, pictures, batch_size, 1000, SHAPE, caption_dropout)


def test_a_step_draws_the_same_whatever_came_before() -> None:
    sequence = [draws().step(step) for step in range(4)]
    alone = draws().step(3)
    for a, b in zip(vars(sequence[3]).values(), vars(alone).values(), strict=True):
        assert torch.equal(a, b)


def test_steps_and_runs_draw_different_numbers() -> None:
    first = draws().step(0).noise
    assert not torch.equal(first, draws().step(1).noise)
    assert not torch.equal(first, draws("other run").step(0).noise)


def test_every_picture_comes_up_once_before_any_comes_up_again() -> None:
    seen = torch.cat([draws().step(step).indices for step in range(5)]).tolist()
    epochs = [seen[i : i + 5] for i in range(0, len(seen), 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_timesteps_of_a_batch_cover_the_schedule() -> None:
    for step in range(20):
        t = draws().step(step).timesteps
        assert (t.sort().values // 125).tolist() == list(range(8))


def test_captions_are_dropped_at_the_given_rate() -> None:
    dropped = torch.cat([draws(caption_dropout=0.25).step(step).dropped for step in range(200)])
    assert 0.2 < dropped.float().mean() < 0.3
    assert not draws().step(0).dropped.any()


def test_evaluation_covers_the_schedule_and_never_changes() -> None:
    all_timesteps = torch.cat([evaluation_draw(i, 4, 1000, SHAPE, 0).timesteps for i in range(25)])
    assert torch.histc(all_timesteps.float(), 10, 0, 1000).tolist() == [10.0] * 10
    a, b = (evaluation_draw(3, 4, 1000, SHAPE, 7) for _ in range(2))
    assert torch.equal(a.noise, b.noise)
    assert not torch.equal(a.noise, evaluation_draw(3, 4, 1000, SHAPE, 8).noise)
