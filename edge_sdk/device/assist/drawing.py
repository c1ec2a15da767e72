"""Drawing with a helper: the device begins by itself, and goes on from the helper's state if that arrives in time.

What the device has drawn is kept until the picture is there: if the helper's half turns out to be of no use, the device
goes on where it was.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from edge_sdk.device.assist.asking import Asking, Wanted
from edge_sdk.device.assist.choice import LEAST_SAVED, Times, choose, latest
from edge_sdk.device.assist.line import Line
from edge_sdk.device.assist.settings import Assist, Assistance
from edge_sdk.device.home import Home
from edge_sdk.errors import AssistDeclined, DrawingError, ImpastoError
from edge_sdk.inference import Decoder, DrawingState, Generator, OnStep, Order, PromptWords
from edge_sdk.wire import assist as wire

_BANDWIDTH = 256e3  # bytes a second, for a connection that states none
_STATE_MARGIN = 4096

Decode = Callable[[DrawingState], list[Image.Image]]


@dataclass
class _Progress:
    """The device's own drawing, as the thread that asks sees it."""

    done: int = 0
    seconds: float = math.inf  # of its fastest step: the first one opens the UNet


def draw_assisted(
    generator: Generator,
    order: Order,
    wish: Assist,
    home: Home,
    named: Mapping[str, float],
    *,
    decoder: Decoder = "full",
    tile: int | None = None,
    on_step: OnStep | None = None,
) -> tuple[list[Image.Image], Assistance]:
    """Draw one picture with the help of a federation's helpers, if one is in time; else without.

    Args:
        generator: draws the device's steps.
        order: what to draw, with all adapters.
        wish: the owner's.
        home: home of the device, with which it has joined its federation.
        named: those of the order's adapters that are at home, name -> weight; the helper draws with root and clusters.
        decoder, tile: as in `Generator.generate`.
        on_step: as in `Generator.generate`; after a helper's answer the steps go on behind it, and after an answer of
            no use where the device was.

    Returns:
        The pictures, none if `on_step` cancelled, and which steps came from where.

    Raises:
        ConfigurationError: the device has not joined; or the settings of the connection have a will.
        BrokerSettingsInvalid: the settings of the connection make no sense.
        Others: as `Generator.generate`. No error of helpers or of the network is raised: it is `Assistance.reason`.
    """
    generator.check_decoder(decoder)
    identity, shared = home.identity(), home.published(named)
    total = generator.course(order).steps

    def decode(state: DrawingState) -> list[Image.Image]:
        return generator.decode(state.latents, decoder=decoder, tile=tile)

    order, reason = _prepared(generator, order, wish)
    if reason is not None:
        pictures = generator.draw(order, decoder=decoder, tile=tile, on_step=on_step)
        return pictures, Assistance(total, reason=reason)
    progress = _Progress()
    measured = _Measured(generator, order, wish, progress, total, has_own=len(order.adapters) > len(shared))
    asking = Asking(identity, measured.wanted(shared), time.monotonic() + wish.seconds)
    line = Line(wish.connection, identity, asking)
    measured.line = line
    line.start()
    with closing(line):
        return _Both(generator, order, total, decode, on_step, line, asking, progress).draw()


def _prepared(generator: Generator, order: Order, wish: Assist) -> tuple[Order, ImpastoError | None]:
    """The order as it is drawn on both sides, and the reason why it cannot be shared, if there is one."""
    total = generator.course(order).steps
    if order.seed is None:
        order = replace(order, seed=secrets.randbits(48))
    unfit = [name for name in ("picture", "latents") if getattr(order, name) is not None]
    if unfit or order.reuse > 1 or order.count > 1:
        return order, AssistDeclined("A helper draws one picture from noise alone, without step reuse.")
    if not isinstance(order.seed, int) or order.seed > wire.MAX_SEED:
        return order, AssistDeclined(f"A seed for helpers is one number up to {wire.MAX_SEED}.")
    if wish.steps != "auto" and wish.steps >= total:
        return order, AssistDeclined(
            f"A helper can draw 1 to {total - 1} of {total} steps, not {wish.steps}: the device draws the last itself."
        )
    prompt, negative = order.prompt, order.negative_prompt
    if not isinstance(prompt, str) or not isinstance(negative, str):
        return order, AssistDeclined("A helper draws one prompt at a time.")
    # As token ids from here on, so that a warning of a long prompt comes once.
    words, negative_words = generator.words(prompt), generator.words(negative)
    order = replace(order, prompt=words, negative_prompt=negative_words)
    if wish.form == "open" and None in (*_packed(words), *_packed(negative_words)):
        return order, AssistDeclined("The prompt has more tokens, or larger ones, than a request can hold.")
    return order, None


def _packed(words: PromptWords) -> list[bytes | None]:
    return [wire.pack_tokens(ids) for ids in words.ids]


class _Measured:
    """The drawing, for the thread that asks: its plan depends on times that are measured meanwhile."""

    line: Line

    def __init__(
        self, generator: Generator, order: Order, wish: Assist, progress: _Progress, steps: int, *, has_own: bool
    ) -> None:
        self._generator, self._order, self._wish, self._progress = generator, order, wish, progress
        self._steps = steps
        self._course = generator.course(order)
        self._shape = generator.latent_shape(order)
        index = generator.bundle.index
        tall, wide = (side * index.vae_scale_factor for side in self._shape[2:])
        self._size = wide, tall
        self._trained = index.image_size**2
        knows_all = not has_own and wish.form == "open"
        self._most = generator.noisy_steps(steps, latest(knows_all=knows_all))

    def wanted(self, shared: Sequence[wire.AdapterUse]) -> Wanted:
        def drawing(k: int) -> wire.Drawing:
            return self._drawing(k, shared)

        return Wanted(
            course=self._course, form=self._wish.form, pixels=self._size[0] * self._size[1], room=self._room,
            plan=self._plan, worth=self._worth, drawing=drawing, check=self._check, done=lambda: self._progress.done,
        )  # fmt: skip

    @property
    def _room(self) -> int:
        numbers = int(np.prod(self._shape))
        return 2 * 4 * numbers + _STATE_MARGIN

    def _plan(self, helper: wire.HelperState) -> int | None:
        if self._wish.steps != "auto":
            return self._wish.steps
        if not self._progress.done:
            return None  # the device's own time is not known yet
        found = choose(self._times(helper), self._most)
        if found is None:
            raise self._declined(helper)
        return found

    def _worth(self, helper: wire.HelperState, k: int, seconds: float) -> None:
        if self._wish.steps == "auto":
            times = replace(self._times(helper), helper=0.0)  # the helper's own figure has its queue and its steps
            if times.saved(k, wait=seconds) < LEAST_SAVED:
                raise self._declined(helper)

    def _times(self, helper: wire.HelperState) -> Times:
        share = self._size[0] * self._size[1] / self._trained
        bandwidth = self._wish.connection.bandwidth or _BANDWIDTH
        link = 4 * self.line.round_trip + self._room / bandwidth
        progress = self._progress
        return Times(self._steps, progress.done, progress.seconds, share * helper.seconds, link)

    def _declined(self, helper: wire.HelperState) -> AssistDeclined:
        return AssistDeclined(
            f"Helper {helper.helper!r} would save less than {LEAST_SAVED:.0%} of the time that this device takes alone."
        )

    def _drawing(self, k: int, shared: Sequence[wire.AdapterUse]) -> wire.Drawing:
        order, course = self._order, self._course
        is_open = self._wish.form == "open"
        guidance = self._generator.guidance(order)
        assert isinstance(order.prompt, PromptWords), "it was prepared"
        assert isinstance(order.negative_prompt, PromptWords), "it was prepared"
        assert isinstance(order.seed, int), "it was prepared"
        negative = order.negative_prompt if is_open and guidance > 1 and not order.negative_prompt.empty else None
        return wire.Drawing(
            base_id=course.base_id, variant=course.variant, schedule=course.schedule, scheduler=course.scheduler,
            steps=course.steps, until=k, guidance=guidance, width=self._size[0], height=self._size[1], seed=order.seed,
            hybrid=order.hybrid, adapters=list(shared), form=self._wish.form,
            prompt=_sent(order.prompt) if is_open else [], negative=None if negative is None else _sent(negative),
            deadline=time.time() + self._wish.seconds,
        )  # fmt: skip

    def _check(self, state: DrawingState) -> None:
        self._generator.check_state(state, self._order)


def _sent(words: PromptWords) -> list[bytes]:
    return [ids for ids in _packed(words) if ids is not None]


@dataclass
class _Both:
    """The device's own drawing, and a helper's half once it is there."""

    generator: Generator
    order: Order
    total: int
    decode: Decode
    on_step: OnStep | None
    line: Line
    asking: Asking
    progress: _Progress

    def draw(self) -> tuple[list[Image.Image], Assistance]:
        own = self.generator.states(self.order)
        last, answer = self._until_answer(own)
        if last is None:
            return [], self._by_device()
        if answer is None:
            return self.decode(last), self._by_device()
        try:
            pictures = self._from(answer)
        except DrawingError as error:  # the helper's half leads nowhere
            return self._to_the_end(own, last), Assistance(self.total, reason=error)
        return pictures, Assistance(self.total, answer.step, self.progress.done, self.asking.helper)

    def _until_answer(self, own: Iterator[DrawingState]) -> tuple[DrawingState | None, DrawingState | None]:
        """Draw until a useful answer is there, or all is drawn.

        Returns:
            The device's last state, None if `on_step` cancelled; and the answer, if there is one.
        """
        last = None
        began = time.monotonic()
        for state in own:
            last = state
            self.progress.seconds = min(self.progress.seconds, time.monotonic() - began)
            self.progress.done += 1
            if not self._goes_on(state):
                return None, None
            answer = self.line.answer
            if answer is not None and answer.step > state.step:
                return state, answer
            began = time.monotonic()
        return last, None

    def _from(self, answer: DrawingState) -> list[Image.Image]:
        """The pictures that follow from a helper's state; none if `on_step` cancelled."""
        return self._to_the_end(self.generator.states(replace(self.order, state=answer)), answer)

    def _to_the_end(self, states: Iterator[DrawingState], last: DrawingState) -> list[Image.Image]:
        """The pictures at the end of the steps that are left after `last`; none if `on_step` cancelled."""
        for state in states:
            last = state
            if not self._goes_on(state):
                return []
        return self.decode(last)

    def _goes_on(self, state: DrawingState) -> bool:
        return self.on_step is None or self.on_step(state.step, self.total, state.latents) is not False

    def _by_device(self) -> Assistance:
        self.line.close()
        return Assistance(self.total, reason=self.line.reason)
