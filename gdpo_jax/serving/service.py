"""One thread that draws for all clients, and takes new parameters between two draws."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from gdpo_jax.models import Model
from gdpo_jax.serving.drawing import Call, Drawn, Job, call_of, draw
from gdpo_jax.serving.fields import BadRequest
from gdpo_jax.serving.parameters import Update, read_parameters
from gdpo_jax.training import fingerprint

__all__ = ["Result", "Service", "Serving"]


class Result(NamedTuple):
    """Completions of each prompt, and the version of the parameters that all of them are of."""

    completions: list[list[Drawn]]
    version: int


class Serving(NamedTuple):
    """What is served: the plain model below, the model itself (with adapters, if any were sent),
    the version of its parameters (0: as opened), and the digest of the plain one's."""

    base: Model
    model: Model
    version: int
    digest: str


class _Draw(NamedTuple):
    job: Job
    call: Call
    future: "Future[Result]"


class _Replace(NamedTuple):
    path: Path
    update: Update
    future: "Future[int]"


class Service:
    """Draws jobs in their order, those that can be drawn together at once.

    model: plain, without adapters. bucket, rows: as in `draw`. most_waiting: jobs that may wait;
    further ones are refused. Use as a context manager, in which the thread runs.
    """

    def __init__(self, model: Model, *, bucket: int, rows: int, most_waiting: int):
        self._sizes = {"bucket": bucket, "rows": rows}
        self._most_waiting = most_waiting
        self._waiting: deque[_Draw | _Replace] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="drawing", daemon=True)
        # Only the thread writes it, whole, and anyone may read it.
        self.serving = Serving(model, model, 0, fingerprint(model.params))

    def __enter__(self) -> "Service":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._closed = True
            left, self._waiting = self._waiting, deque()
            self._changed.notify()
        for one in left:
            one.future.cancel()
        self._thread.join()

    def draw(self, job: Job) -> "Future[Result]":
        """The completions of a job. Raises `BadRequest` where too many are waiting."""
        positions = self.serving.base.policy.config.max_positions
        return self._put(_Draw(job, call_of(job, positions), Future()))

    def replace(self, path: Path, update: Update) -> "Future[int]":
        """Takes the parameters in a file for all jobs behind this one; gives their version.

        The future raises `BadRequest` for a version that is not newer, and UserError for parameters
        that do not fit; those before then stay as they are.
        """
        return self._put(_Replace(path, update, Future()))

    def _put(self, one: Any) -> Any:
        with self._changed:
            if len(self._waiting) >= self._most_waiting or self._closed:
                message = f"{len(self._waiting)} requests are waiting; come again"
                raise BadRequest(message, None, status=429, code="too_many_requests")
            self._waiting.append(one)
            self._changed.notify()
        return one.future

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            first = batch[0]
            if isinstance(first, _Replace):
                _settle([first.future], lambda first=first: [self._replaced(first)])
            else:
                _settle([one.future for one in batch], lambda batch=batch: self._drawn(batch))

    def _next(self) -> list[Any] | None:
        """The oldest one, and with it all that can be drawn together; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            first = self._waiting.popleft()
            batch = [first]
            if isinstance(first, _Draw):
                room = self._sizes["rows"] // first.call.num_samples - len(first.job.prompts)
                for other in list(self._waiting):
                    # What comes behind new parameters is to be drawn with them.
                    if isinstance(other, _Replace):
                        break
                    if other.call == first.call and len(other.job.prompts) <= room:
                        room -= len(other.job.prompts)
                        self._waiting.remove(other)
                        batch.append(other)
            return batch

    def _drawn(self, batch: list[_Draw]) -> list[Result]:
        serving = self.serving
        found = draw(serving.model, [one.job for one in batch], batch[0].call, **self._sizes)
        return [Result(completions, serving.version) for completions in found]

    def _replaced(self, one: _Replace) -> int:
        serving, (version, lora) = self.serving, one.update
        if version <= serving.version:
            message = f"the parameters have version {serving.version}; {version} is not newer"
            raise BadRequest(message, "version", status=409, code="version_conflict")
        model = read_parameters(one.path, serving.base, lora, serving.model.policy)
        if lora is None:
            self.serving = Serving(model, model, version, fingerprint(model.params))
        else:
            self.serving = serving._replace(model=model, version=version)
        return version


def _settle(futures: list[Future], work: Callable[[], list[Any]]) -> None:
    """Gives the results of `work` to the futures, or what it raised to all of them."""
    running = [future.set_running_or_notify_cancel() for future in futures]
    if not any(running):
        return
    try:
        found = work()
    except BaseException as error:
        for future in (f for f, runs in zip(futures, running) if runs):
            future.set_exception(error)
        return
    for future, value in ((f, v) for f, v, runs in zip(futures, found, running) if runs):
        future.set_result(value)
