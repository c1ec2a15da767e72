"""Device: the class that an app embeds. It draws, learns from its owner's pictures, and takes part in a federation.

    device = Device(bundle="bundle/", model="model/", pictures="my_pictures/")
    device.generate("a fox").save("fox.png")
    device.learn(minutes=10)
    with device.join("mqtts://broker:8883", federation="stickers") as membership:
        membership.run(rounds=5)
    device.generate("a fox", adapters={"cluster": 0.7, "leaf": 1.0}).save("mine.png")

Adapters live in the home folder under their names: "root" and "cluster" come from the federation, "leaf" is learned
here and never leaves. Their weights are chosen by the device's own pictures. Opening a device reads nothing; torch is
imported by `learn`, `choose_weights` and `join` only.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from PIL import Image

from edge_sdk.adapter import Adapter, LayerSet
from edge_sdk.codes import Code, different_pictures, picture_codes, prompt_codes
from edge_sdk.device.assist import Assist, Assistance, draw_assisted
from edge_sdk.device.forgetting import forget
from edge_sdk.device.home import Home
from edge_sdk.device.prior import PriorNotDrawn, prior_pictures
from edge_sdk.errors import ImpastoError, MembershipStopped, NoPictures, TrainingError
from edge_sdk.inference import Generator, OnStep, Order
from edge_sdk.membership import Farewell, Membership, Observer, RoundPlan, TrainedUpdate, no_home
from edge_sdk.paths import expanded
from edge_sdk.pictures import Picture, load_pictures
from edge_sdk.privacy import DEFAULT, check_epsilon, different_captions, level_named
from edge_sdk.transport import Settings, read_bandwidth
from edge_sdk.wire import DeviceProfile, read_fingerprint, read_invitation

if TYPE_CHECKING:
    from edge_sdk.inference.runtime import DrawingOptions
    from edge_sdk.membership import OnEvent
    from edge_sdk.training import Guard, Progress, Trainer, TrainingResult

# Name -> weight of adapters at home, or (adapter, weight) pairs of any others.
Weighted: TypeAlias = Mapping[str, float] | Sequence[tuple[Adapter, float]]
# Share of the time left until a round's deadline; the rest is for handing the update in.
_TRAINING_SHARE = 0.8
_RANK = 8  # of a leaf, by default
# Share of a training's time in which weights are chosen after it.
_WEIGHTS_SHARE = 0.2
# The longest time to draw prior pictures in: a share of the training's minutes, or seconds if it goes by steps.
_PRIOR_SHARE, _PRIOR_SECONDS = 0.1, 60.0
# Note of a leaf that was trained on all pictures, so that none is left to judge it by.
_KNOWS_ALL = {"held_out": "none"}


class Device:
    """One device: a bundle to draw with, a base model to learn with, pictures to learn from, a home for its adapters.

    Args:
        bundle: the exported base model.
        model: the diffusers folder that the bundle was made of; only learning needs it.
        pictures: folder of captioned pictures, see `edge_sdk.pictures`; only learning needs it.
        home: folder for adapters and unfinished work, made when it is needed; one per federation.
        threads: CPU threads to draw and to learn with; None takes the cores that the process may use.
        backend: the back end to draw with, a key of `BACKENDS`, or "auto" for the fastest that works here.
        mirror: learn from mirrored pictures, too; False for pictures with lettering, or whose sides matter.
        memory_limit: bytes that drawing, and learning, may take, or a text such as "2GB"; None sets no limit. See
            `Stages` and `edge_sdk.training.memory.budget`.
    """

    def __init__(
        self,
        bundle: Path | str,
        *,
        model: Path | str | None = None,
        pictures: Path | str | None = None,
        home: Path | str = "~/.impasto",
        threads: int | None = None,
        backend: str = "cpu",
        memory_limit: int | str | None = None,
        mirror: bool = True,
    ) -> None:
        self.bundle = expanded(bundle)
        self.model = expanded(model) if model is not None else None
        self.pictures = expanded(pictures) if pictures is not None else None
        self.home = expanded(home)
        self._files = Home(self.home)
        self._threads = threads
        self._drawing: DrawingOptions = {"threads": threads, "backend": backend, "memory_limit": memory_limit}
        self._mirror = mirror

    @cached_property
    def generator(self) -> Generator:
        """The generator behind `generate`, for several pictures at once or for other inputs.

        Raises:
            BundleMissing, BundleCorrupt: the bundle cannot be used.
            BackendUnavailable: the back end does not work here.
            MemoryLimitTooSmall: no stage of the bundle could run within the limit.
        """
        return Generator.load(self.bundle, **self._drawing)

    @cached_property
    def trainer(self) -> Trainer:
        """The trainer behind `evaluate`; it keeps UNet and encoded pictures in memory until `del device.trainer`.

        While it is open, `learn` and `join` train with its UNet; otherwise they open a trainer and close it again.

        Raises:
            TrainingError, NoPictures, PictureError: as `learn`.
        """
        return self._opened_trainer(self._divided_pictures()[0])

    @property
    def adapters(self) -> dict[str, Path]:
        """The adapters at home, name -> file: "root", "cluster", "leaf", and "cluster-<n>" of other clusters."""
        return self._files.adapters

    @property
    def weights(self) -> dict[str, float]:
        """The weights with which `generate` draws: those of the last `choose_weights`, as long as root, cluster and
        leaf are the adapters that they were chosen for; else 1 for each that is at home."""
        return self._files.weights

    def generate(
        self,
        prompt: str,
        *,
        negative_prompt: str = "",
        seed: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        scheduler: str | None = None,
        adapters: Weighted | None = None,
        hybrid: str = "guide",
        size: int | tuple[int, int] | None = None,
        picture: Image.Image | None = None,
        strength: float = 0.75,
        on_step: OnStep | None = None,
        assist: Assist | None = None,
        on_assist: Callable[[Assistance], None] | None = None,
    ) -> Image.Image:
        """Draw one picture: offline, unless `assist` asks for help.

        Args:
            adapters: name -> weight of adapters at home, or (adapter, weight) pairs. None takes root, cluster and leaf,
                as far as they are there, with the `weights` of this device; {} draws with the base model alone.
            hybrid: how adapters draw. "guide" strengthens the owner's style as it does the prompt; "merge" draws what
                diffusers draws with the same adapters.
            The others: see `Generator.generate`.
            on_step: called after every step; returning False cancels the drawing.
            assist: let a helper of the device's federation draw the first steps, see docs/assist.md; its form says what
                may leave the device. The device begins by itself at once, so that a helper that is late, gone or wrong
                costs nothing. None asks nobody.
            on_assist: called at the end with what came from where.

        Raises:
            ConfigurationError: with `assist`, this home has not joined a federation.
            BrokerSettingsInvalid: the settings of the broker of `assist` make no sense.
            AdapterError: no adapter of that name; AdapterMismatch: one of another base model.
            HybridUnsupported: the hybrid cannot combine so many adapters.
            BundleMissing, BundleCorrupt: the bundle cannot be used.
            PictureError: `picture` cannot be used.
            ImpastoError: `on_step` cancelled.
            Any error that `on_step` raises.
        """
        order = Order(
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed,
            steps=steps,
            guidance=guidance,
            scheduler=scheduler,
            adapters=self._weighted(adapters),
            hybrid=hybrid,
            size=size,
            picture=picture,
            strength=strength,
        )
        if assist is None:
            pictures = self.generator.draw(order, on_step=on_step)
        else:
            named = self.weights if adapters is None else adapters if isinstance(adapters, Mapping) else {}
            pictures, came = draw_assisted(self.generator, order, assist, self._files, named, on_step=on_step)
            if on_assist is not None:
                on_assist(came)
        if not pictures:
            raise ImpastoError("The drawing was cancelled.")
        return pictures[0]

    def evaluate(
        self,
        pictures: Path | str | None = None,
        *,
        adapters: Weighted | None = None,
        seed: int = 0,
        levels: int = 8,
    ) -> float:
        """Mean denoising loss on captioned pictures, for comparing adapters; smaller is better.

        Args:
            pictures: folder of pictures that were not learnt from; None takes those that are.
            adapters: as for `generate`.
            seed, levels: see `edge_sdk.training.Trainer.evaluate`.

        Raises:
            AdapterError, AdapterMismatch: as `generate`.
            TrainingError, NoPictures, PictureError: as `learn`.
        """
        folder = expanded(pictures) if pictures is not None else None
        return self.trainer.evaluate(self._weighted(adapters), folder, seed=seed, levels=levels)

    def _weighted(self, adapters: Weighted | None) -> list[tuple[Adapter, float]]:
        if adapters is None:
            adapters = self.weights
        if isinstance(adapters, Mapping):
            return [(self.adapter(name), weight) for name, weight in adapters.items()]
        return list(adapters)

    def adapter(self, name: str) -> Adapter:
        """Read an adapter at home.

        Raises:
            AdapterError: there is none of that name; AdapterFormatError, AdapterValueError: its file is damaged.
        """
        return self._files.adapter(name)

    def learn(
        self,
        *,
        minutes: float | None = None,
        steps: int | None = None,
        rank: int | None = None,
        batch_size: int = 8,
        learning_rate: float = 1e-3,
        layers: LayerSet = "attention",
        guard: bool = True,
        afresh: bool = False,
        seed: int = 0,
        on_step: Callable[[Progress], None] | None = None,
    ) -> TrainingResult:
        """Learn the leaf adapter from the pictures, on top of the root and cluster adapters at home, and save it.

        Training goes on from the present leaf. A call that was interrupted, even by a power cut, is resumed by the next
        call with the same arguments. Afterwards, `choose_weights` says how much of each adapter to draw with.

        Args:
            minutes, steps: when to stop, whichever comes first.
            rank: LoRA rank; None takes that of the present leaf, or 8.
            guard: stop when the adapter begins to learn single pictures by heart, or to forget the base model, and keep
                the best one; see `edge_sdk.training.Guard`. One picture in eight, from twelve on, is kept from training
                for that, and a few prior pictures are drawn at the first calls. False trains on all pictures, to the
                end; no weights are chosen for such a leaf then.
            afresh: forget the present leaf, and what an interrupted call with other arguments has learnt.
            on_step: called after every step. An error that it raises ends the training, and is raised here; the next
                call goes on from this step.
            The others: see `edge_sdk.training.Trainer`.

        Warns:
            PictureLeftOut: files that look like pictures are not used.
            TrainingPutAside: an interrupted call had other pictures or settings; its state is kept in another file.
            PriorNotDrawn: this device cannot draw, for lack of memory or room for prepared graphs, say.

        Raises:
            TrainingError: no base model was given, or it is not the bundle's; torch is missing; `rank` is not the
                present leaf's; see `Trainer.train`.
            MemoryLimitTooSmall: learning does not fit into the device's memory limit.
            NoPictures, PictureError: no pictures were given, or they cannot be used.
            DeviceBusy: a leaf is being learnt in this home, in this process or in another.
            ConfigurationError: the home cannot be written.
        """
        self._files.check()
        trainer, held_out = self._new_trainer(all_pictures=not guard)
        checkpoint = self.home / "leaf.checkpoint"
        watching = self._guard(held_out, minutes, checkpoint) if guard else None

        def train() -> TrainingResult:
            leaf = self.adapter("leaf") if "leaf" in self.adapters and not afresh else None
            if leaf and rank not in (None, leaf.rank):
                raise TrainingError(
                    f"rank={rank} would have no effect: the leaf of {self.home} has rank {leaf.rank} and is gone on "
                    "from. Leave rank out, or begin anew with afresh=True."
                )
            result = trainer.train(
                minutes=minutes,
                steps=steps,
                start=leaf,
                frozen=[(self.adapter(name), 1.0) for name in ("root", "cluster") if name in self.adapters],
                seed=seed,
                rank=rank or (leaf.rank if leaf else _RANK),
                batch_size=batch_size,
                learning_rate=learning_rate,
                layers=layers,
                guard=watching,
                on_step=on_step,
                checkpoint=checkpoint,
            )
            knows_all = not guard or (leaf is not None and _knows_all(leaf))
            notes = _KNOWS_ALL if knows_all else {}
            return replace(result, adapter=replace(result.adapter, notes=notes))

        from edge_sdk.training import resumed

        with self._files.leaf_lock():
            result = resumed(train, checkpoint, None if afresh else self.home / "leaf.checkpoint.aside")
            self._files.save_leaf(result.adapter, checkpoint)
        self._choose_weights(trainer, held_out, _WEIGHTS_SHARE * result.stats.train_seconds)
        return result

    def choose_weights(self) -> dict[str, float]:
        """Choose how much of root, cluster and leaf to draw with, by the loss on own pictures that were not trained on.

        `learn` does this at its end, as far as a fifth of its time suffices; call it after a federation has brought
        other adapters. All weights stay at 1 if there are no such pictures: with fewer than twelve, none is kept from
        training, nor by `learn(guard=False)`.

        Raises:
            As `learn`.
        """
        self._files.check()
        return self._choose_weights(*self._new_trainer())

    def _choose_weights(
        self, trainer: Trainer, held_out: Sequence[Picture], seconds: float = math.inf
    ) -> dict[str, float]:
        present = self._files.roles
        if not held_out or not present:
            return self.weights
        found = {name: self.adapter(name) for name in present}
        if "leaf" in found and _knows_all(found["leaf"]):
            return self.weights
        from edge_sdk.training import choose_weights

        def loss(weights: Mapping[str, float]) -> float:
            return trainer.evaluate([(found[name], weight) for name, weight in weights.items()], held_out)

        chosen = choose_weights(present, loss, seconds=seconds)
        self._files.keep_weights(chosen)
        return chosen

    def _guard(self, held_out: Sequence[Picture], minutes: float | None, checkpoint: Path) -> Guard | None:
        from edge_sdk.training import Guard

        seconds = _PRIOR_SECONDS if minutes is None else _PRIOR_SHARE * 60 * minutes
        if checkpoint.exists():
            seconds = 0.0  # an interrupted training goes on with the pictures that it had
        prior: list[Picture] = []
        try:
            # A generator of its own, so that no graph stays in memory beside the training.
            with Generator(self.generator.bundle, **self._drawing) as generator:
                prior = prior_pictures(generator, self.home / "prior", seconds)
        except OSError as error:
            raise no_home(self.home, error) from error
        except ImpastoError as error:  # what keeps this device from drawing need not keep it from learning
            warnings.warn(PriorNotDrawn(error), stacklevel=3)
        return Guard(held_out or None, prior or None) if held_out or prior else None

    def join(
        self,
        broker: str | Settings,
        *,
        federation: str,
        device_id: str | None = None,
        max_rank: int = 64,
        privacy: str | Collection[str] = DEFAULT,
        epsilon: float | None = None,
        share_picture_code: bool = True,
        masked_only: bool = False,
        trust: str | None = None,
        invitation: str | None = None,
        bandwidth: str | float | None = None,
        on_event: OnEvent | None = None,
        on_step: Callable[[Progress], None] | None = None,
        on_plan: Callable[[RoundPlan], None] | None = None,
        on_turn: Callable[[], None] | None = None,
    ) -> Membership:
        """Become a member of a federation: `with device.join(...) as membership: membership.run()`.

        What leaves the device: one prompt code, one picture code if the bundle has an image encoder, the number of
        pictures, and the adapters that it trains for the federation; if this sums them under masks, only their sum with
        those of others can be seen. Pictures, captions and the leaf adapter stay. At level "local" no code leaves: the
        device chooses its cluster alone.

        Args:
            broker: its URL, "mqtt://host:port" or "mqtts://..."; or the transport's settings, for TLS, user and
                password.
            federation: its name.
            device_id: this device's name in the federation; None keeps one in the home folder.
            max_rank: the largest LoRA rank that this device trains.
            privacy: the privacy level, or levels, that you allow for prompt code and picture code: keys of
                `edge_sdk.privacy.LEVELS`. The federation says which one it asks for; if it is none of these, nothing is
                sent, and `Membership.run` raises PrivacyRefused.
            epsilon: for the level "local+dp": the largest epsilon that all answers of this device to questions of this
                federation may have together, 1 to 8; smaller tells less. The home keeps what is spent of it.
            share_picture_code: send the mean of the pictures' embeddings, by which the coordinator finds who shares
                whose taste, as far as the level lets it. It gives the style of the pictures away. False sends none; nor
                does a device with fewer different pictures than the level needs.
            masked_only: take part only in rounds whose updates are summed under masks (docs/masked-sums.md). If the
                federation asks for an update by itself, `Membership.run` raises PrivacyRefused.
            trust: the fingerprint of the coordinator's key (`impasto-coordinator key`), if you know it from elsewhere;
                None trusts the first coordinator that shows itself, and only that one from then on.
            invitation: the text that the federation's operator has given for this device, needed once. It also states
                `device_id` and `trust`; if these are given as well, they have to agree.
            bandwidth: upload limit for updates, as "512 KB/s" or in bytes per second; None takes the limit in the
                transport's settings, if there is one.
            on_event: called for events worth showing, see `Membership`.
            on_step: called after every training step.
            on_plan: called before a round's training, with its plan and the adapters that it starts from.
            on_turn: called while the membership works: at each turn of its loop, at least every ten seconds, and after
                every training step. Feed a watchdog with it.

        The callbacks watch: an error that one raises is logged, once for each type, and ends nothing. To end the
        membership, call its `stop`, also from a callback; a training ends after its present step then.

        Raises:
            TrainingError, NoPictures, PictureError: as `learn`.
            PromptError: the pictures have too few different captions for an allowed privacy level.
            ConfigurationError: the home folder cannot be used, there is no such privacy level, the bundle is too old
                for it, `epsilon` is out of range or does not fit the levels, or `trust`, `invitation` or `bandwidth`
                cannot be read.
            MessageInvalid: a name that cannot be part of a topic.
            `Membership.run` raises what the network and the coordinator do.
        """
        invited = None if invitation is None else read_invitation(invitation)
        settings = broker if isinstance(broker, Settings) else Settings(url=broker)
        if bandwidth is not None:
            settings = replace(settings, bandwidth=read_bandwidth(bandwidth))
        levels = [level_named(name).name for name in ([privacy] if isinstance(privacy, str) else privacy)]
        check_epsilon(levels, epsilon)
        self._files.check()
        pictures, held_out = self._divided_pictures()
        codes = self._codes([*pictures, *held_out], levels, share_picture_code=share_picture_code)
        trainer = self._trainer_for(pictures)
        prompts, seen = (self._files.kept_codes(name, *made) for name, made in codes.items())
        kept = next((coded.code for coded in prompts if not level_named(coded.level).leaves), b"")
        profiles = [
            DeviceProfile(
                base_id=trainer.base_id,
                prompt_code=coded.code if level_named(coded.level).leaves else b"",
                level=coded.level,
                basis=coded.source,
                pictures=trainer.pictures,
                max_rank=max_rank,
                capabilities={"precision": trainer.precision},
                picture_code=pictured.code,
                picture_encoder=pictured.source,
            )
            for coded, pictured in zip(prompts, seen, strict=True)
        ]
        planned = Observer("on_plan", on_plan) if on_plan else None
        stepped = Observer("on_step", on_step) if on_step else None

        turned = Observer("on_turn", on_turn) if on_turn else None

        def after_step(progress: Progress) -> None:
            if turned:
                turned()
            if stepped:
                stepped(progress)
            if membership.stopped:
                raise MembershipStopped("The membership was stopped; a new one goes on with this training.")

        def train(plan: RoundPlan) -> TrainedUpdate:
            if planned:
                planned(plan)
            return self._train_round(trainer, plan, after_step)

        membership = Membership(
            settings,
            federation,
            device_id or (invited.device if invited else self._files.own_id()),
            profiles,
            self.home,
            train,
            on_event,
            None if trust is None else read_fingerprint(trust),
            invited,
            masked_only=masked_only,
            on_turn=turned,
            code=kept,
            epsilon=epsilon or 0.0,
        )
        return membership

    def forget(
        self, broker: str | Settings | None, *, federation: str, local_only: bool = False, answer: float = 30.0
    ) -> Farewell:
        """Let a federation forget this device, then delete what the home has of the federation.

        The coordinator deletes profile, codes, updates and admission of the device, and confirms that, signed. Here go
        the journal with its keys, the adapters that came from the federation, kept codes, weights, and unfinished
        trainings for it. The leaf stays: it never left this device; and so do prior pictures. A call that was
        interrupted, even by a power cut, is finished by the next one. `edge_sdk.device.CANNOT_BE_TAKEN_BACK` says what
        nobody can undo.

        Args:
            broker: as for `join`; None with `local_only`.
            federation: its name.
            local_only: tell nobody, and delete the files here alone.
            answer: longest wait for the coordinator's confirmation, in seconds.

        Raises:
            ConfigurationError: the home is of another federation, holds nothing of one, or cannot be written; or there
                is no broker, and `local_only` is not set.
            BrokerUnreachable, AccessDenied, DeadlineExceeded, UnknownFederation: the coordinator could not be asked, or
                did not answer: nothing was deleted here.
            Others: see `edge_sdk.membership.forget`.
        """
        return forget(self.home, broker, federation, local_only=local_only, answer=answer)

    def _train_round(
        self, trainer: Trainer, plan: RoundPlan, on_step: Callable[[Progress], None] | None = None
    ) -> TrainedUpdate:
        """Train all of the plan's steps, or as many as there is time for before the round may close."""
        from edge_sdk.training import train_round

        minutes = max(1.0, _TRAINING_SHARE * plan.deadline) / 60
        return train_round(trainer, plan, minutes=minutes, on_step=on_step)

    def _new_trainer(self, *, all_pictures: bool = False) -> tuple[Trainer, list[Picture]]:
        """A trainer for the pictures as they are now, with the UNet of the open one if there is one; and those pictures
        that are kept from training, see `edge_sdk.training.keep_back`: none with `all_pictures`."""
        pictures, held_out = self._divided_pictures(all_pictures=all_pictures)
        return self._trainer_for(pictures), held_out

    def _trainer_for(self, pictures: Sequence[Picture]) -> Trainer:
        opened: Trainer | None = self.__dict__.get("trainer")
        return self._opened_trainer(pictures) if opened is None else opened.with_pictures(pictures)

    def _divided_pictures(self, *, all_pictures: bool = False) -> tuple[list[Picture], list[Picture]]:
        from edge_sdk.training import image_size, keep_back

        pictures = load_pictures(self._own_pictures(), image_size(self._base_model()))
        return (pictures, []) if all_pictures else keep_back(pictures)

    def _base_model(self) -> Path:
        if self.model is None:
            raise TrainingError(
                "Learning needs the base model itself, not only its bundle: Device(..., model='folder'), "
                "the diffusers folder that the bundle was exported from."
            )
        return self.model

    def _opened_trainer(self, pictures: Sequence[Picture]) -> Trainer:
        from edge_sdk.training import Trainer

        trainer = Trainer(
            self._base_model(),
            pictures,
            mirror=self._mirror,
            threads=self._threads,
            memory_limit=self._drawing.get("memory_limit"),
        )
        if trainer.base_id != self.generator.base_id:
            raise TrainingError(
                f"{self.model} is not the base model that {self.bundle} was exported from "
                f"({trainer.base_id[:12]}… and {self.generator.base_id[:12]}…). Export this model, or find its bundle."
            )
        return trainer

    def _own_pictures(self) -> Path:
        if self.pictures is None:
            raise NoPictures("There is nothing to learn from: Device(..., pictures='folder').")
        return self.pictures

    def _codes(
        self, pictures: Sequence[Picture], levels: Sequence[str], *, share_picture_code: bool
    ) -> dict[str, tuple[list[Code], Iterable[str]]]:
        """The codes of captions and of pictures as they are now, one for each level, and what each is made of.

        Picture codes are empty if there are too few pictures, or if the bundle has no image encoder.
        """
        captions = [picture.text for picture in pictures]
        seen: Mapping[str, Image.Image] = {}
        if share_picture_code and self.generator.encodes_pictures:
            seen = different_pictures(picture.image for picture in pictures)
        # A generator of its own, so that no graph stays in memory beside the training.
        with Generator(self.generator.bundle, **self._drawing) as generator:
            prompts = prompt_codes(generator, captions, levels)
            pictured = picture_codes(generator, seen, levels) if seen else [Code(level, b"") for level in levels]
        return {"code": (prompts, different_captions(captions)), "picture-code": (pictured, seen)}


def _knows_all(leaf: Adapter) -> bool:
    return _KNOWS_ALL.items() <= leaf.notes.items()
