"""The demo: who owns what, its verdict, and a small one from end to end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from samples import demo
from samples.demo.__main__ import _can_go_on
from samples.demo.bars import TOGETHER, bars, make_report
from samples.demo.live import Tail
from samples.demo.plan import GROUP_STYLES, make_plan, write_folder
from samples.demo.report import Outcome, draw_hybrid, traffic
from samples.demo.settings import Settings
from samples.stickers.judge import Verdict
from tests.models import keep_stickers_bundle


def test_devices_own_one_style_and_two_or_three_subject_groups() -> None:
    plans = make_plan(8, seed=3)
    assert sorted({plan.group for plan in plans}) == sorted(GROUP_STYLES)
    for plan in plans:
        assert 8 <= len(plan.pictures) <= 12
        assert {s.style for s in plan.pictures + plan.held_out} == {plan.group}
        assert len(plan.subject_groups) in (2, 3)
        assert {s.group for s in plan.pictures} <= set(plan.subject_groups)


def test_nobody_trains_on_a_subject_that_anybody_is_measured_on() -> None:
    plans = make_plan(12, seed=1)
    trained = {s.subject for plan in plans for s in plan.pictures}
    measured = {s.subject for plan in plans for s in plan.held_out}
    assert measured
    assert not trained & measured


def test_the_seed_decides_the_plan() -> None:
    assert make_plan(8, seed=0) == make_plan(8, seed=0)
    assert make_plan(8, seed=0) != make_plan(8, seed=1)


def test_a_folder_is_an_imagefolder(tmp_path: Path) -> None:
    from edge_sdk.pictures import load_pictures

    plan = make_plan(4, seed=0)[1]
    write_folder(plan.pictures, tmp_path)
    assert sorted(p.text for p in load_pictures(tmp_path, 64)) == sorted(s.text for s in plan.pictures)


def _report(**changes: object) -> dict[str, object]:
    devices = [
        {"id": str(i), "group": "ab"[i % 2], "cluster": i % 2, "loss": {"base": 0.5, "local": 0.4, "federated": 0.3}}
        for i in range(4)
    ]
    verdicts = {arm: Verdict(0.5, 0.5, both) for arm, both in (("base", 0.1), ("local", 0.3), ("federated", 0.5))}
    values = {"seed": 0, "seconds": {}, "rounds": 1, "up": 1, "down": 1, "devices": devices}
    return make_report(**(values | {"verdicts": verdicts, "real": 0.8} | changes))  # type: ignore[arg-type]


def test_all_bars_hold_for_a_good_report() -> None:
    assert all(bar.holds for bar in bars(_report()))


@pytest.mark.parametrize(
    ("index", "report"),
    [
        (0, {"clusters": {"ari": 0.89, "k": 2}}),
        (1, {"loss": {"base": 0.5, "local": 0.3, "federated": 0.3}}),
        (1, {"loss": {"base": 0.3, "local": 0.4, "federated": 0.2}}),
        (3, {"judge_on_real": 1.1}),
        (4, {"judge": {"both_hit": {"base": 0.1, "local": 0.45, "federated": 0.5}}}),
    ],
)
def test_each_bar_can_fail(index: int, report: dict[str, object]) -> None:
    assert not bars(_report() | report)[index].holds


def test_half_of_the_devices_are_not_enough() -> None:
    report = _report()
    for device in report["devices"][:2]:  # type: ignore[index]
        device["loss"]["federated"] = 0.45
    assert not bars(report)[2].holds


# Learning in float32, where a processor has no bfloat16, takes minutes on a busy core.
LONG = pytest.mark.timeout(1200)
SMALL = ("--devices", "4", "--rounds", "2", "--steps", "1", "--judged", "1")


def _run_demo(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a demo to its end; if it does not come to one, its devices end with it."""
    command = [sys.executable, "-m", "samples.demo", *options, "--out", str(out)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as demo_:
        try:
            said, complained = demo_.communicate(timeout=600)
        except BaseException:
            os.killpg(demo_.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, demo_.returncode, said, complained)


def _wait_for_event(file: Path, name: str, seconds: float = 300.0) -> None:
    tail, until = Tail(file), time.monotonic() + seconds
    while not any(event["event"] == name for event in tail.read()):
        assert time.monotonic() < until, f"no {name} in {file} within {seconds} s"
        time.sleep(0.05)


@contextmanager
def _started(out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A demo that goes on; at the end it is killed with all of its processes, if there are any left."""
    command = [sys.executable, "-m", "samples.demo", *SMALL, "--out", str(out)]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as demo_:
        try:
            yield demo_
        finally:
            with suppress(ProcessLookupError):
                os.killpg(demo_.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Lives:
    """A demo that was terminated while its devices opened, killed in the middle of the federation, and then finished.

    Attributes:
        out: its folder.
        code: exit code of the one that was terminated.
        left: True if that one left a process behind.
        leaf: when device-01 had learned alone, before it was killed.
        last: the one that came to the end.
    """

    out: Path
    code: int
    left: bool
    leaf: int
    last: subprocess.CompletedProcess[str]

    @property
    def device(self) -> Path:
        return self.out / "devices" / "device-01"


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Lives:
    out = tmp_path_factory.mktemp("demos") / "demo"
    devices = out / "devices"
    with _started(out) as first:
        _wait_for_event(devices / "device-00" / "events.jsonl", "opening")
        first.terminate()
        code = first.wait(60)
        try:
            os.killpg(first.pid, 0)
            left = True
        except ProcessLookupError:
            left = False
    keep_stickers_bundle(out.parent / "bundle")
    with _started(out):
        _wait_for_event(devices / "device-01" / "events.jsonl", "round")
    leaf = (devices / "device-01" / "alone" / "leaf.safetensors").stat().st_mtime_ns
    return Lives(out, code, left, leaf, _run_demo(out, *SMALL))


@LONG
def test_a_small_demo_from_end_to_end(lives: Lives) -> None:
    done = lives.last
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads((lives.out / "report.json").read_text("utf-8"))
    judged = {"judge", "judge_on_real"}
    assert set(report) == {"seed", "seconds", "rounds", "bytes", "clusters", "loss", "devices"} | judged
    assert report["rounds"] == 2
    assert report["bytes"]["up"] > 0
    assert len(report["devices"]) == 4
    page = (lives.out / "index.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") > 4 * 12
    # Nothing is fetched from anywhere; a picture's base64 may hold any four letters.
    assert not re.search(r"https?://", page)


@LONG
def test_a_demo_that_was_killed_goes_on(lives: Lives) -> None:
    """Its devices are killed with it, one of them in the middle of the federation."""
    assert lives.last.returncode == 0, lives.last.stdout[-3000:] + lives.last.stderr[-3000:]
    assert "Going on with the demo" in lives.last.stdout
    assert (lives.device / "alone" / "leaf.safetensors").stat().st_mtime_ns == lives.leaf
    curve = json.loads((lives.device / "result.json").read_text("utf-8"))["curve"]["federated"]
    assert [round_ for round_, _ in curve] == [0, 1, 2]
    # Loss of the base model: measured once, and reported by the last life.
    events = list(Tail(lives.device / "events.jsonl").read())
    base = [event["loss"] for event in events if event["event"] == "base"]
    assert set(base) == {json.loads((lives.device / "result.json").read_text("utf-8"))["loss"]["base"]}
    # What is finished is replaced.
    assert not _can_go_on(Settings.load(lives.out / "settings.json"))


@LONG
def test_a_demo_that_is_terminated_leaves_no_process_behind(lives: Lives) -> None:
    assert lives.code == 128 + signal.SIGTERM
    assert not lives.left


def test_every_life_of_a_coordinator_counts_its_own_bytes() -> None:
    counted = [(10, 1), (30, 2), (5, 4), (8, 5), (8, 5)]
    assert traffic([{"bytes": {"up": up, "down": down}} for up, down in counted]) == (38, 5)


@pytest.mark.parametrize("option", [("--rounds", "1"), ("--devices", "3"), ("--steps", "0"), ("--judged", "0")])
def test_too_little_for_a_demo_is_refused_at_once(option: tuple[str, str], tmp_path: Path) -> None:
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "samples.demo", *option, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert option[0] in done.stderr
    assert not out.exists()


def test_without_two_cluster_adapters_there_is_no_hybrid(tmp_path: Path) -> None:
    settings = Settings(
        out=str(tmp_path), model="", base_id="", bundle="", broker="", devices=4, rounds=2, steps=1, rank=8,
        batch_size=8, seed=0, judged=1, draw_steps=1, guidance=3.0, deadline=60.0,
    )  # fmt: skip
    outcomes = [Outcome(plan, {"cluster": i % 2}, tmp_path / plan.id) for i, plan in enumerate(make_plan(4, seed=0))]
    assert draw_hybrid(settings, outcomes) is None


def test_the_demo_leaves_a_strangers_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("keep me", "utf-8")
    command = [sys.executable, "-m", "samples.demo", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "choose another --out" in " ".join(done.stderr.split())
    assert (tmp_path / "letter.txt").read_text("utf-8") == "keep me"


def test_recorded_runs_reach_the_bars_but_one() -> None:
    """Reports of whole demos with the defaults, one file a seed."""
    recorded = [
        json.loads(file.read_text("utf-8")) for file in (Path(demo.__file__).parent / "recorded").glob("*.json")
    ]
    assert {report["seed"] for report in recorded} == {0, 1}
    for report in recorded:
        assert len(report["devices"]) == 8
        assert report["seconds"]["total"] <= 600
        # A device alone draws nearly as well from as few pictures: 1.0 x. The bar stays, and the report says so.
        assert {bar.name for bar in bars(report) if not bar.holds} <= {TOGETHER}
