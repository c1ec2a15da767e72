"""Switches that torch and diffusers have once for the whole process, for several trainers in threads of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch.nn.attention import SDPBackend, sdpa_kernel

MAKING_MODULES = threading.RLock()
"""Held while modules are made: diffusers and transformers load into modules that they make empty, and let torch make
all modules of the process so meanwhile."""


class _MathAttention:
    """Attention by plain products, in as many threads as are inside.

    The first one sets torch's switches and the last one puts them back: otherwise whoever came second would put the
    first one's switches back, for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._set = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._set.enter_context(sdpa_kernel(SDPBackend.MATH))
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._set.close()


math_attention = _MathAttention()
