"""One device of the demo, a process of its own: it learns alone, then with the federation, then draws.

    python -m samples.demo.device SETTINGS.json DEVICE

It reads its own folder only (`pictures/` to learn from, `held_out/` to be measured on) and writes the report's data
there: events.jsonl while it works, result.json and drawn/ at the end. Started again, it resumes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_sdk import Device, durable
from edge_sdk.adapter import Adapter, load, save
from samples.demo.live import Tail
from samples.demo.settings import FEDERATION, LAYERS, LEARNING_RATE, RESULT, WEIGHT, Settings

if TYPE_CHECKING:  # torch takes seconds to import, and a device says before that it is there
    from edge_sdk.membership import RoundPlan
    from edge_sdk.training import Progress

Weighted = list[tuple[Adapter, float]]
Curve = list[tuple[int, float]]
# Timesteps a picture: few for the curves, more for the figures that are compared.
CURVE_LEVELS, FINAL_LEVELS = 2, 8


class DemoDevice:
    """A device of the demo, twice: as a member of the federation, and as one that learns alone; and its events."""

    def __init__(self, settings: Settings, device: str) -> None:
        self.settings, self.id = settings, device
        self.folder = settings.device_folder(device)
        events = Tail(self.folder / "events.jsonl")
        self._told = list(events.read())
        self._events = events.going_on()
        self.tell("opening")
        self.member, self.alone = (
            Device(
                settings.bundle,
                model=settings.model,
                pictures=self.folder / "pictures",
                home=self.folder / home,
                mirror=False,
                threads=1,
            )
            for home in ("home", "alone")
        )

    def tell(self, event: str, **values: Any) -> None:
        self._events.write(json.dumps({"event": event, "time": time.time(), "device": self.id, **values}) + "\n")

    def loss(self, adapters: Weighted, levels: int = FINAL_LEVELS) -> float:
        return self.member.evaluate(self.folder / "held_out", adapters=adapters, seed=self.settings.seed, levels=levels)

    def learn_alone(self) -> tuple[Adapter, Curve]:
        """Learn as many steps as the federation will ask for, in one go: no exchange, one optimiser for all steps."""
        s, done = self.settings, self.folder / "alone.json"
        if done.exists():
            return self.alone.adapter("leaf"), json.loads(done.read_text("utf-8"))
        rounds, halfway = (s.rounds + 1) // 2, self.folder / "halfway.safetensors"
        show = self._progress("alone", s.rounds * s.steps)

        def on_step(progress: Progress) -> None:
            show(progress)
            if progress.step >= rounds * s.steps and not halfway.exists():
                save(progress.adapter(), halfway)

        if "leaf" not in self.alone.adapters:
            self.alone.learn(
                steps=s.rounds * s.steps,
                rank=s.rank,
                batch_size=s.batch_size,
                learning_rate=LEARNING_RATE,
                layers=LAYERS,
                guard=False,  # as many steps as the federation asks for
                seed=s.seed,
                on_step=on_step,
            )
        leaf = self.alone.adapter("leaf")
        curve: Curve = [(0, self.loss([], CURVE_LEVELS))]
        reached = {s.rounds: leaf}
        if halfway.exists():  # it is missing if the demo was killed right after its step, which is then the last one
            reached.setdefault(rounds, load(halfway))
        for number, adapter in sorted(reached.items()):
            curve.append((number, self.loss([(adapter, 1.0)], CURVE_LEVELS)))
            self.tell("alone", loss=curve[-1][1], rounds=number)
        durable.write(done, json.dumps(curve).encode())
        return leaf, curve

    def learn_together(self) -> dict[str, Any]:
        """Take part in the federation; return "cluster", "adapters" (name -> file), "bytes" and its loss "curve"."""
        done = self.folder / "together.json"
        if done.exists():
            found: dict[str, Any] = json.loads(done.read_text("utf-8"))
            return found
        # By round, because a round that a crash interrupted is trained once more.
        curve = {event["round"] - 1: event["loss"] for event in self._told if event["event"] == "round"}
        number = 0

        def on_plan(plan: RoundPlan) -> None:
            nonlocal number
            number = plan.round
            start = [(adapter, 1.0) for adapter in (*plan.frozen, *([plan.start] if plan.start else []))]
            curve[plan.round - 1] = loss = self.loss(start, CURVE_LEVELS)
            self.tell("round", round=plan.round, stage=plan.stage, cluster=plan.cluster, loss=loss)

        with self.member.join(
            self.settings.broker,
            federation=FEDERATION,
            device_id=self.id,
            max_rank=self.settings.rank,
            on_plan=on_plan,
            on_step=lambda progress: self._progress(f"round {number}", self.settings.steps)(progress),
        ) as membership:
            self.tell("joining")
            result = membership.run(deadline=self.settings.deadline)
        brought = {
            "cluster": result.cluster,
            "adapters": {name: str(file) for name, file in result.adapters.items()},
            "bytes": {"up": result.bytes_up, "down": result.bytes_down},
            "curve": sorted(curve.items()),
        }
        durable.write(done, json.dumps(brought).encode())
        return brought

    def draw(self, arms: dict[str, Weighted]) -> None:
        """Draw the same held-out captions from the same seeds with each set of adapters."""
        asked = self._asked(self.folder / "held_out")[: self.settings.judged]
        for done, (text, _) in enumerate(asked):
            self.tell("drawing", done=done, of=len(asked))
            for arm, adapters in arms.items():
                weighted = [(adapter, WEIGHT * weight) for adapter, weight in adapters]
                picture = self.member.generate(
                    text,
                    seed=self.settings.seed + done,
                    steps=self.settings.draw_steps,
                    guidance=self.settings.guidance,
                    adapters=weighted,
                )
                file = self.folder / "drawn" / arm / f"{done:02d}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                picture.save(file)

    def run(self) -> None:
        # Measured by an earlier life of the process, or now.
        measured = [event["loss"] for event in self._told if event["event"] == "base"]
        losses = {"base": measured[0] if measured else self.loss([])}
        self.tell("base", loss=losses["base"])
        alone, alone_curve = self.learn_alone()
        losses["local"] = self.loss([(alone, 1.0)])
        brought = self.learn_together()
        files = brought["adapters"]
        together = [(load(files[name]), 1.0) for name in ("root", "cluster") if name in files]
        losses["federated"] = self.loss(together)
        curve = [*brought["curve"], (self.settings.rounds, self.loss(together, CURVE_LEVELS))]
        self.tell("together", loss=losses["federated"], cluster=brought["cluster"])
        self.draw({"base": [], "local": [(alone, 1.0)], "federated": together})
        result = {
            "cluster": brought["cluster"],
            "loss": losses,
            "curve": {"local": alone_curve, "federated": curve},
            "bytes": brought["bytes"],
            "asked": self._asked(self.folder / "held_out")[: self.settings.judged],
        }
        durable.write(self.folder / RESULT, json.dumps(result).encode())
        self.tell("done")

    def _progress(self, what: str, steps: int) -> Callable[[Progress], None]:
        def on_step(progress: Progress) -> None:
            if progress.step % 4 == 0 or progress.step == progress.steps:
                self.tell("step", what=what, step=progress.step, steps=steps)

        return on_step

    def _asked(self, folder: Path) -> Sequence[tuple[str, tuple[str, str]]]:
        """(caption, (style, subgroup)) of a folder's pictures."""
        rows = map(json.loads, (folder / "metadata.jsonl").read_text("utf-8").splitlines())
        return [(row["text"], (row["style"], row["subgroup"])) for row in rows]


def main(
    settings: Annotated[Path, typer.Argument(help="settings.json of a demo.")],
    device: Annotated[str, typer.Argument(help="Which device of it.")],
) -> None:
    """Run one device of the demo."""
    DemoDevice(Settings.load(settings), device).run()


if __name__ == "__main__":
    typer.run(main)
