"""The learning thread: it clusters and aggregates while the coordinator's loop goes on.

Both take from milliseconds to minutes, in which devices want to join, to deliver and to be answered. The loop hands the
machine's questions over and feeds the answers to it as events. The thread writes nothing but blobs and sketches, so
that a coordinator killed in the middle loses only time: its next start asks the same question again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from coordinator import rounds
from coordinator.learning.aggregate import Learning
from coordinator.store import Backoff, StoredBlobs
from coordinator.worker_thread import WorkerThread
from edge_sdk.errors import StoreUnavailable

Question: TypeAlias = rounds.Cluster | rounds.Aggregate | rounds.Place
"""An action of the round machine that the thread computes the answer to."""


@dataclass(frozen=True)
class Answer:
    """The answer to a question.

    Attributes:
        question: the question.
        event: the answer; None if there is an error.
        error: the unexpected error that ended the computation.
    """

    question: Question
    event: rounds.Event | None = None
    error: Exception | None = None


class LearningWorker:
    """The learning thread; `start` and `close` it.

    Args:
        learning: computes the answers.
        blobs: looked through for lost ones before devices are clustered.
        done: called on the thread with each answer.
        troubled: called on the thread with the reason whenever a store does not answer; then it is asked again.
    """

    def __init__(
        self,
        learning: Learning,
        blobs: StoredBlobs,
        done: Callable[[Answer], None],
        troubled: Callable[[str], None],
    ) -> None:
        self._learning = learning
        self._blobs = blobs
        self._done = done
        self._troubled = troubled
        self._open: list[Question] = []  # handed over, and their answers not `taken`
        self._thread: WorkerThread[tuple[Question, rounds.State]] = WorkerThread("impasto-learning", self._work)

    @property
    def is_busy(self) -> bool:
        """True while there are blobs that no state names yet; nothing may be pruned then."""
        return bool(self._open)

    def start(self) -> None:
        """Start the thread. At most once."""
        self._thread.start()

    def put(self, question: Question, state: rounds.State) -> None:
        """Hand a question over, with the state that it was asked in.

        The same question of a device is not asked twice; a question about a round makes earlier ones void.
        """
        if isinstance(question, rounds.Place):
            if any(isinstance(other, rounds.Place) and other.device == question.device for other in self._open):
                return
            self._open.append(question)
        else:
            self._open = [*(other for other in self._open if isinstance(other, rounds.Place)), question]
        self._thread.put((question, state))

    def taken(self, answer: Answer) -> bool:
        """Note that the loop has an answer; return False if its question is void."""
        waited = self._is_open(answer.question)
        self._open = [other for other in self._open if other is not answer.question]
        return waited

    def close(self, seconds: float) -> None:
        """Drop all questions, and wait up to `seconds` for the present one; the next start asks them again."""
        self._thread.close(seconds)

    def _work(self, asked: tuple[Question, rounds.State]) -> None:
        question, state = asked
        try:
            event = self._answer(question, state)
        except Exception as error:  # the loop decides about it
            self._done(Answer(question, error=error))
        else:
            if event is not None:
                self._done(Answer(question, event))

    def _answer(self, question: Question, state: rounds.State) -> rounds.Event | None:
        """Return the answer as soon as the stores allow it; None if the question has become void meanwhile."""
        backoff = Backoff()
        while self._is_open(question) and not self._thread.is_closed:
            if (event := self._attempt(question, state)) is not None:
                return event
            self._thread.pause(backoff.next())
        return None

    def _attempt(self, question: Question, state: rounds.State) -> rounds.Event | None:
        """Return the answer; None if a store does not allow it at present."""
        try:
            match question:
                case rounds.Cluster():
                    return lost_blobs(state, self._blobs) or self._learning.try_cluster(question)
                case rounds.Aggregate():
                    return self._learning.try_aggregate(question)
                case rounds.Place():
                    return self._learning.place(question)
        except StoreUnavailable as error:
            self._troubled(str(error))
            return None

    def _is_open(self, question: Question) -> bool:
        return any(other is question for other in self._open)


def lost_blobs(state: rounds.State, blobs: StoredBlobs) -> rounds.Lost | None:
    """Return the blobs that the state needs and the store lacks, or None.

    Raises:
        StoreUnavailable: the store cannot be listed.
    """
    needed = state.blobs()
    missing = needed - blobs.names() if needed else set()
    return rounds.Lost(frozenset(missing)) if missing else None
