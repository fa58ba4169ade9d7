"""Score batches of finished images, in this process; `algorithms.workers.pool` does it in others. B batch."""

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self

from tensordict import TensorDictBase

logger = logging.getLogger(__name__)

OnFailure = Literal["raise", "nan"]


class RewardError(RuntimeError):
    """A reward could not be computed; the message names it, the iteration and the samples."""


class Steps(Protocol):
    """The rewards of a batch one step at a time, as `rewards.steps.RewardSteps`."""

    @property
    def names(self) -> Sequence[str]:
        """Steps in order."""

    def begin(self, td: TensorDictBase) -> None:
        """Take a batch."""

    def run(self, name: str) -> None:
        """Take a step."""

    def skip(self, name: str) -> None:
        """Leave a step out; a reward is then nan."""

    def finish(self) -> TensorDictBase:
        """("rewards", NAME) and "reward", (B, 1) each."""


class Scorer(Protocol):
    """From a batch with "action", its context and "sample", (B,), to ("rewards", NAME) and "reward", (B, 1), later.

    Used as a context manager, it ends what it has started.
    """

    def submit(self, td: TensorDictBase, iteration: int) -> Future[TensorDictBase]:
        """Start scoring a batch of this iteration."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class FailurePolicy:
    """What is done about a reward of a batch that cannot be computed.

    on_failure: raise, or make this reward nan for the images of the batch, with a warning.
    """

    on_failure: OnFailure
    iteration: int
    samples: Sequence[int]  # of the batch

    def __str__(self) -> str:
        return f"in iteration {self.iteration}, samples {self.samples[0]} to {self.samples[-1]}"

    def handle(self, step: str, reason: str, error: BaseException) -> None:
        """Raise RewardError from the error, or warn, as the policy says."""
        message = f"the reward step {step!r} {reason} {self}: {error}"
        if self.on_failure == "raise":
            raise RewardError(message) from error
        logger.warning("%s; the rewards that need it are nan", message)


def take(steps: Steps, name: str, policy: FailurePolicy, failure: type[Exception] = Exception) -> None:
    """Run a step, and skip it if it raises an error of the kind `failure` and the policy goes on."""
    try:
        steps.run(name)
    except failure as error:
        policy.handle(name, "failed", error)
        steps.skip(name)


class LocalScorer:
    """Scores each batch at once, in this process."""

    def __init__(self, steps: Steps, on_failure: OnFailure = "raise"):
        self.steps, self.on_failure = steps, on_failure

    def submit(self, td: TensorDictBase, iteration: int) -> Future[TensorDictBase]:
        """The finished scores.

        Raises:
            RewardError: a reward raised an error, and on_failure says so.
        """
        policy = FailurePolicy(on_failure=self.on_failure, iteration=iteration, samples=td["sample"].tolist())
        self.steps.begin(td)
        for name in self.steps.names:
            take(self.steps, name, policy)
        done: Future[TensorDictBase] = Future()
        done.set_result(self.steps.finish())
        return done

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass
