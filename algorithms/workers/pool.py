"""Score batches in workers, while the trainer draws the next ones. B batch."""

import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from tensordict import NestedKey, TensorDictBase

from algorithms.workers.remote import Channel, RemoteSteps, StepError, WorkerDied, WorkerTimeout
from algorithms.workers.scorer import FailurePolicy, OnFailure, RewardError, take

logger = logging.getLogger(__name__)

MOST_LOSSES = 3  # of workers at one step of a batch, or outside of its steps


class Worker:
    """A worker that starts when it is first used, and again after it was ended."""

    def __init__(self, connect: Callable[[], Channel], timeout: float):
        self.connect, self.timeout = connect, timeout
        self.channel: Channel | None = None
        self.closed = False

    def steps(self) -> RemoteSteps:
        """The steps of the running worker, or of a new one.

        Raises:
            StepError: the new one cannot start; the next call tries another.
            WorkerDied, WorkerTimeout: it was lost, or this was closed; `end` it.
        """
        if self.channel is None:
            self.channel = self.connect()
            if self.closed:  # meanwhile: `close` may have come too early to see the channel
                raise WorkerDied("closed")
            try:
                self.running = RemoteSteps(self.channel, self.timeout)
            except StepError:
                self.end()
                raise
        return self.running

    def end(self) -> None:
        """End the worker, if there is one."""
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close()

    def close(self) -> None:
        """End the worker, and start no other."""
        self.closed = True
        self.end()


class WorkerPool:
    """Scores batches in workers; each has a thread of this process that talks to it.

    A worker that dies is replaced, and its batch repeated; a step at which several die is a failure.

    Args:
        connect: starts a worker.
        workers: how many.
        inputs: keys of a batch that the rewards read.
        timeout: seconds that a step may take; after that it is a failure, and the worker is replaced.
        on_failure: what is done about a step that fails.
    """

    def __init__(
        self,
        connect: Callable[[], Channel],
        workers: int,
        *,
        inputs: set[NestedKey],
        timeout: float,
        on_failure: OnFailure = "raise",
    ):
        self.workers = [Worker(connect, timeout) for _ in range(workers)]
        self.inputs, self.on_failure = inputs, on_failure
        self.threads = ThreadPoolExecutor(workers, thread_name_prefix="reward worker")
        self.idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self.workers:
            self.idle.put(worker)

    def submit(self, td: TensorDictBase, iteration: int) -> Future[TensorDictBase]:
        """The scores, once a worker has computed them; asking for them raises RewardError if there are none."""
        policy = FailurePolicy(on_failure=self.on_failure, iteration=iteration, samples=td["sample"].tolist())
        device = td["action"].device
        inputs = td.select(*self.inputs, strict=False).cpu()
        return self.threads.submit(lambda: self._score(inputs, policy).to(device))

    def _score(self, td: TensorDictBase, policy: FailurePolicy) -> TensorDictBase:
        worker = self.idle.get()
        try:
            return self._score_on(worker, td, policy)
        finally:
            self.idle.put(worker)

    def _score_on(self, worker: Worker, td: TensorDictBase, policy: FailurePolicy) -> TensorDictBase:
        """Take all steps of a batch, from the first one again after the worker was lost."""
        skipped: set[str] = set()
        losses: Counter[str] = Counter()  # by step; outside of them ""
        while True:
            step = ""
            try:
                steps = worker.steps()
                steps.begin(td)
                for step in steps.names:
                    if step in skipped:
                        steps.skip(step)
                    else:
                        take(steps, step, policy, StepError)
                step = ""
                return steps.finish()
            except StepError as error:
                raise RewardError(f"a reward worker failed {policy}: {error}") from error
            except (WorkerDied, WorkerTimeout) as error:
                worker.end()
                losses[step] += 1
                if worker.closed or (losses[step] == MOST_LOSSES and not step):
                    raise RewardError(f"lost {losses.total()} reward workers {policy}: {error}") from error
                if step and (losses[step] == MOST_LOSSES or isinstance(error, WorkerTimeout)):
                    policy.handle(step, "was given up", error)
                    skipped.add(step)
                else:
                    lost_at = step or "the start"
                    logger.warning("lost a reward worker at %r %s: %s; another one repeats it", lost_at, policy, error)

    def close(self) -> None:
        """End the workers, whatever they do."""
        for worker in self.workers:
            worker.close()
        self.threads.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
