"""Callbacks of an app that watches its membership. One that fails costs what it would have shown, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, ParamSpec

P = ParamSpec("P")

_LOG = logging.getLogger(__name__)


class Observer(Generic[P]):
    """Calls a callback of the app. An error that it raises is logged and goes no further.

    The first error of each type is a warning, with its traceback at debug level. KeyboardInterrupt and SystemExit pass.

    Args:
        name: name of the callback, for the log.
        call: the callback.
    """

    def __init__(self, name: str, call: Callable[P, object]) -> None:
        self._name = name
        self._call = call
        self._known: set[type[Exception]] = set()

    def __call__(self, *given: P.args, **named: P.kwargs) -> None:
        try:
            self._call(*given, **named)
        except Exception as error:
            if type(error) in self._known:
                return
            self._known.add(type(error))
            _LOG.warning(
                "%s has failed (%s: %s). The membership goes on, and calls it again; its next errors of this kind are "
                "not logged. To end a membership from a callback, call its stop().",
                self._name,
                type(error).__name__,
                error,
            )
            _LOG.debug("The traceback of %s:", self._name, exc_info=True)
