"""One device of the demo, a process of its own: it learns alone, then with the federation, then draws.

    python -m samples.demo.device SETTINGS.json DEVICE

It reads its own folder only (`pictures/` to learn from, `held_out/` to be measured on) and writes the report's data
there: events.jsonl while it works, result.json and drawn/ at the end. Started again, it resumes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_sdk import durable
from edge_sdk.adapter import Adapter, load, save
from edge_sdk.inference import Generator
from edge_sdk.membership import Membership, RoundPlan, TrainedUpdate
from edge_sdk.pictures import load_pictures
from edge_sdk.privacy import prompt_code
from edge_sdk.training import Progress, Trainer, train_round
from edge_sdk.wire import DeviceProfile
from samples.demo.live import Tail
from samples.demo.settings import FEDERATION, RESULT, Settings

Weighted = list[tuple[Adapter, float]]
Curve = list[tuple[int, float]]
# Timesteps a picture: few for the curves, more for the figures that are compared.
CURVE_LEVELS, FINAL_LEVELS = 4, 8


class DemoDevice:
    """A device of the demo: its trainer, its generator, and its events so far."""

    def __init__(self, settings: Settings, device: str) -> None:
        self.settings, self.id = settings, device
        self.folder = settings.device_folder(device)
        events = Tail(self.folder / "events.jsonl")
        self._told = list(events.read())
        self._events = events.going_on()
        self.tell("opening")
        self.trainer = Trainer(settings.model, self.folder / "pictures", threads=1)
        self.generator = Generator.load(settings.bundle, threads=1)
        self.held_out = load_pictures(self.folder / "held_out", self.trainer.image_size)

    def tell(self, event: str, **values: Any) -> None:
        self._events.write(json.dumps({"event": event, "time": time.time(), "device": self.id, **values}) + "\n")

    def loss(self, adapters: Weighted, levels: int = FINAL_LEVELS) -> float:
        return self.trainer.evaluate(adapters, self.held_out, seed=self.settings.seed, levels=levels)

    def learn_alone(self) -> tuple[Adapter, Curve]:
        """Train as many steps as the federation will ask for, in one go: no exchange, one optimiser for all steps."""
        s, checkpoint = self.settings, self.folder / "alone.checkpoint"
        adapter, done = self.folder / "alone.safetensors", self.folder / "alone.json"
        if done.exists():
            return load(adapter), json.loads(done.read_text("utf-8"))
        curve: Curve = [(0, self.loss([], CURVE_LEVELS))]
        for rounds in sorted({(s.rounds + 1) // 2, s.rounds}):
            result = self.trainer.train(
                steps=rounds * s.steps,
                seed=s.seed,
                rank=s.rank,
                batch_size=s.batch_size,
                learning_rate=s.learning_rate,
                checkpoint=checkpoint,
                on_step=self._progress("alone", s.rounds * s.steps),
            )
            curve.append((rounds, self.loss([(result.adapter, 1.0)], CURVE_LEVELS)))
            self.tell("alone", loss=curve[-1][1], rounds=rounds)
        save(result.adapter, adapter)
        durable.write(done, json.dumps(curve).encode())
        checkpoint.unlink()
        return result.adapter, curve

    def learn_together(self) -> dict[str, Any]:
        """Take part in the federation; return "cluster", "adapters" (name -> file), "bytes" and its loss "curve"."""
        done = self.folder / "together.json"
        if done.exists():
            found: dict[str, Any] = json.loads(done.read_text("utf-8"))
            return found
        # By round, because a round that a crash interrupted is trained once more.
        curve = {event["round"] - 1: event["loss"] for event in self._told if event["event"] == "round"}

        def train(plan: RoundPlan) -> TrainedUpdate:
            below = [(adapter, 1.0) for adapter in plan.frozen]
            now = self.loss([*below, *([(plan.start, 1.0)] if plan.start else [])], CURVE_LEVELS)
            curve[plan.round - 1] = now
            self.tell("round", round=plan.round, stage=plan.stage, cluster=plan.cluster, loss=now)
            return train_round(self.trainer, plan, on_step=self._progress(f"round {plan.round}", plan.steps))

        captions = [text for text, _ in self._asked(self.folder / "pictures")]
        profile = DeviceProfile(
            base_id=self.trainer.base_id,
            prompt_code=prompt_code(self.generator.encode_prompt(captions)[1], "plain").astype("<f4").tobytes(),
            pictures=self.trainer.pictures,
            max_rank=self.settings.rank,
        )
        with Membership(self.settings.broker, FEDERATION, self.id, profile, self.folder / "home", train) as membership:
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
                picture = self.generator.generate(
                    text,
                    seed=self.settings.seed + done,
                    steps=self.settings.draw_steps,
                    guidance=self.settings.guidance,
                    adapters=adapters,
                )[0]
                file = self.folder / "drawn" / arm / f"{done:02d}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                picture.save(file)

    def run(self) -> None:
        losses = {"base": self.loss([])}
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

    def _progress(self, what: str, steps: int) -> Any:
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
