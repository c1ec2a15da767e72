from __future__ import annotations

import math
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from edge_sdk import adapter as adapters
from edge_sdk.adapter import Adapter
from edge_sdk.errors import CheckpointError, TrainingError
from edge_sdk.pictures import Picture
from edge_sdk.training import Guard, Look, Progress, Trainer, keep_back
from edge_sdk.training.guard import best_of, reason_to_stop
from tests.models import tiny_model
from tests.training.samples import squares

SOME = [(Image.new("RGB", (8, 8)), "a fox")]
BLIND = math.nan


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    # A rate at which six pictures are soon known by heart.
    return Trainer(
        tiny_model("v_prediction"), squares(6), rank=4, batch_size=3, learning_rate=3e-2, precision="fp32", threads=1
    )


def guard(every: int = 4, patience: int = 2, drift: float = 1e6, prior: bool = True) -> Guard:
    return Guard(squares(9)[6:], unlike() if prior else None, every=every, patience=patience, drift=drift)


def unlike() -> list[tuple[Image.Image, str]]:
    """Pictures of which the trained ones say nothing: bright squares on black."""
    return [(ImageOps.invert(image), "at night") for image, _ in squares(3)]


def looks(*values: tuple[float, float]) -> list[Look]:
    return [Look(10 * number, held_out, prior) for number, (held_out, prior) in enumerate(values)]


def test_the_best_look_has_the_lowest_held_out_loss() -> None:
    rules = Guard(SOME, patience=2)
    seen = looks((1.0, BLIND), (0.8, BLIND), (0.7, BLIND), (0.75, BLIND), (0.72, BLIND))
    assert best_of(seen, rules) == 2
    assert [reason_to_stop(seen[: count + 1], rules) for count in range(5)] == [None] * 4 + ["by heart"]


def test_a_look_that_drifts_is_never_the_best_and_ends_the_training() -> None:
    rules = Guard(SOME, SOME, drift=0.1)
    seen = looks((1.0, 0.50), (0.8, 0.54), (0.6, 0.56))
    assert best_of(seen, rules) == 1
    assert [reason_to_stop(seen[: count + 1], rules) for count in range(3)] == [None, None, "drift"]


def test_without_held_out_pictures_the_last_steady_look_is_the_best() -> None:
    rules = Guard(None, SOME, drift=0.1, patience=1)
    seen = looks((BLIND, 0.50), (BLIND, 0.45), (BLIND, 0.52), (BLIND, 0.53))
    assert best_of(seen, rules) == 3
    assert all(reason_to_stop(seen[: count + 1], rules) is None for count in range(4))


def test_a_training_that_only_harms_gives_back_its_start() -> None:
    assert best_of(looks((0.5, 0.5), (0.6, 0.9)), Guard(SOME, SOME)) == 0


@pytest.mark.parametrize("wrong", [{"every": 0}, {"patience": 0}, {"levels": 0}, {"drift": 0.0}, {"drift": BLIND}])
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(TrainingError, match="at least 1, and a drift above 0"):
        Guard(SOME, **wrong)


def test_a_guard_without_pictures_is_refused() -> None:
    with pytest.raises(TrainingError, match="needs pictures to look at"):
        Guard()


def test_a_training_that_learns_by_heart_is_stopped_and_its_best_adapter_kept(trainer: Trainer) -> None:
    watched = trainer.train(steps=400, guard=guard())
    assert watched.stopped == "by heart"
    assert 0 < watched.kept_step < watched.steps < 400
    assert watched.kept_step == watched.steps - 4 * 2
    # The looks change nothing: the adapter is that of a training which ends there.
    assert same(watched.adapter, trainer.train(steps=watched.kept_step).adapter)
    held_out = squares(9)[6:]
    went_on = trainer.train(steps=watched.steps).adapter
    assert trainer.evaluate([(watched.adapter, 1.0)], held_out) < trainer.evaluate([(went_on, 1.0)], held_out)


def test_a_training_that_drifts_is_stopped(trainer: Trainer) -> None:
    rate = 0.5  # far too large
    watched = trainer.train(steps=40, learning_rate=rate, guard=guard(every=1, patience=40, drift=0.05))
    assert watched.stopped == "drift"
    assert watched.kept_step < watched.steps < 40
    before = trainer.evaluate([], unlike(), levels=4)
    assert trainer.evaluate([(watched.adapter, 1.0)], unlike(), levels=4) <= 1.05 * before
    drifted = trainer.train(steps=watched.steps, learning_rate=rate).adapter
    assert trainer.evaluate([(drifted, 1.0)], unlike(), levels=4) > 1.05 * before


def test_a_training_that_goes_well_is_left_alone(trainer: Trainer) -> None:
    watched = trainer.train(steps=8, guard=guard(patience=100))
    assert (watched.stopped, watched.steps) == (None, 8)


def test_a_watched_training_resumes_as_if_it_had_not_been_interrupted(trainer: Trainer, tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(progress: Progress) -> None:
        if progress.step == 7:
            raise Interrupted

    file = tmp_path / "training"
    with pytest.raises(Interrupted):
        trainer.train(steps=400, guard=guard(), checkpoint=file, checkpoint_seconds=0, on_step=interrupt)
    resumed = trainer.train(steps=400, guard=guard(), checkpoint=file)
    whole = trainer.train(steps=400, guard=guard())
    assert same(resumed.adapter, whole.adapter)
    assert (resumed.steps, resumed.kept_step, resumed.stopped) == (whole.steps, whole.kept_step, whole.stopped)
    # Once more: it is over, and ends at once with the same result.
    assert same(trainer.train(steps=400, guard=guard(), checkpoint=file).adapter, whole.adapter)
    for other in (guard(every=5), guard(patience=3), guard(drift=0.5), guard(prior=False), None):
        with pytest.raises(CheckpointError):
            trainer.train(steps=400, guard=other, checkpoint=file)


def test_one_picture_in_eight_is_kept_back_from_twelve_on() -> None:
    pictures = [Picture(Image.new("RGB", (8, 8), (n, 0, 0)), f"number {n}", Path(f"{n}.png")) for n in range(40)]
    for count in (1, 11):
        assert keep_back(pictures[:count]) == (pictures[:count], [])
    for count, kept in ((12, 1), (16, 2), (40, 5)):
        train, held_out = keep_back(pictures[:count])
        assert len(held_out) == kept
        assert sorted([*train, *held_out], key=pictures.index) == pictures[:count]
        assert train == sorted(train, key=pictures.index)


def test_a_picture_more_leaves_the_others_on_their_side() -> None:
    pictures = [Picture(Image.new("RGB", (8, 8), (n, 0, 0)), f"number {n}", Path(f"{n}.png")) for n in range(23)]
    before = keep_back(pictures[:22])[1]
    after = keep_back(pictures)[1]
    assert len(before) == len(after) == 2
    assert len({one.text for one in before} - {one.text for one in after}) <= 1


def same(x: Adapter, y: Adapter) -> bool:
    return adapters.to_bytes(x) == adapters.to_bytes(y)
