"""The parts that prepare a bundle and draw with it."""

from __future__ import annotations

import itertools
import statistics
import time
from typing import Any

from edge_sdk.cli.bench.parts import Reporter, Skip, Values
from edge_sdk.errors import ConfigurationError
from edge_sdk.inference import Bundle, Generator
from edge_sdk.inference.runtime import cache as caching
from edge_sdk.inference.runtime import graphs, show_size
from edge_sdk.inference.runtime import prepare as preparing

_PROMPT = "a fox"


def prepare(settings: Values, reporter: Reporter) -> Values:
    """Prepare every graph that is worth it and is not prepared yet."""
    if settings["memory_limit"] is not None:
        raise Skip("with --memory-limit drawing itself decides what is prepared")
    try:
        cache = caching.cache_folder()
    except ConfigurationError as error:
        raise Skip(str(error)) from error
    worth = {
        name: graph
        for name, graph in graphs(Bundle.load(settings["bundle"], verify=False)).items()
        if preparing.pays(graph)
    }
    if not worth:
        raise Skip("the graphs are small, and drawn with as they are")
    left = {name: graph for name, graph in worth.items() if preparing.find(graph, cache) is None}
    began = time.monotonic()
    for number, (name, graph) in enumerate(left.items()):
        reporter.progress(number, len(left), f"{name}, {show_size(graph.size)}")
        preparing.ready(graph, cache)
    size = sum(graph.size for graph in worth.values())
    return {"graphs": len(worth), "size": size, "new": len(left), "seconds": _round(time.monotonic() - began)}


def draw(settings: Values, reporter: Reporter) -> Values:
    """Draw one picture from a cold start, and some more."""
    reporter.mark("imported")
    steps: int = settings["steps"]
    options: dict[str, Any] = {name: settings[name] for name in ("backend", "memory_limit", "threads")}
    try:
        generator = Generator.load(settings["bundle"], **options)
    except ValueError as error:
        raise ConfigurationError(f"{error}") from error
    reporter.mark("opened")
    with generator:
        in_all = steps * (1 + settings["pictures"])
        _draw(generator, steps, 0, in_all, reporter)
        reporter.mark("cold")
        warm = [
            _draw(generator, steps, number * steps, in_all, reporter) for number in range(1, 1 + settings["pictures"])
        ]
    step_times = [seconds for times in warm for seconds in times.steps]
    return {
        "steps": steps,
        "guidance": generator.bundle.index.defaults.guidance,
        "scheduler": generator.bundle.index.defaults.scheduler,
        "warm_seconds": [_round(times.picture) for times in warm],
        "step_seconds": _round(statistics.median(step_times)) if step_times else None,
        "decode_seconds": _round(statistics.median([times.decoding for times in warm])),
    }


class _Times:
    """The times of a picture: all of it, each step but the first, and decoding."""

    def __init__(self, began: float, stepped: list[float], ended: float) -> None:
        self.picture = ended - began
        self.steps = [later - earlier for earlier, later in itertools.pairwise(stepped)]
        self.decoding = ended - stepped[-1]


def _draw(generator: Generator, steps: int, done: int, of: int, reporter: Reporter) -> _Times:
    stepped: list[float] = []

    def on_step(step: int, _: int, __: object) -> None:
        stepped.append(time.monotonic())
        reporter.progress(done + step, of)

    began = time.monotonic()
    generator.generate(_PROMPT, seed=done, steps=steps, on_step=on_step)
    return _Times(began, stepped, time.monotonic())


def _round(seconds: float) -> float:
    return round(seconds, 4)
