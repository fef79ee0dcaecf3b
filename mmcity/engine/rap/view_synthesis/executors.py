"""Executors that render views at once, in a thread, or in another process."""

import queue
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import multiprocessing

from mmcity.utils.checks import check_choice

from .budget import SetPlan
from .synthesizer import SynthesisSpec, build_synthesizer

#: Seconds between two looks at whether the other side still lives.
_POLL = 0.5
#: Seconds that a worker gets to end by itself.
_PATIENCE = 10.0
_RENDERED = "rendered"


class SynthesisError(RuntimeError):
    """The worker that renders views failed."""


def _work(synthesizer, job):
    return synthesizer.rendered() if job == _RENDERED else synthesizer.synthesize(job)


class InlineExecutor:
    """Renders when asked for the result."""

    is_ahead = False

    def __init__(self, spec: SynthesisSpec) -> None:
        self.synthesizer = build_synthesizer(spec)
        self._job: Any = None

    def submit(self, job: SetPlan | int | str) -> None:
        """Note a job: ``rendered``, or the plan (or number) of a set of perturbed views."""
        self._job = job

    def result(self):
        """Result of the job."""
        return _work(self.synthesizer, self._job)

    def close(self) -> None:
        """Nothing is left behind."""


class ThreadExecutor(InlineExecutor):
    """Renders in a thread while training goes on; operators release Python's lock."""

    is_ahead = True

    def __init__(self, spec: SynthesisSpec) -> None:
        super().__init__(spec)
        self._pool = ThreadPoolExecutor(1)
        self._future: Future | None = None

    def submit(self, job: SetPlan | int | str) -> None:
        """Start a job."""
        self._future = self._pool.submit(_work, self.synthesizer, job)

    def result(self):
        """Wait for the job; what went wrong there is raised here."""
        try:
            return self._future.result()
        except Exception as error:
            raise SynthesisError(f"the thread that renders views failed: {error}") from error

    def close(self) -> None:
        """End the thread after the set it is at."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class ProcessExecutor:
    """Renders in a process of its own, which owns the map, on a device of its own.

    Only plain arrays pass between both. A worker that dies, by its own error or from outside,
    ends the wait for its result with an error; a trainer that dies ends the worker.
    """

    is_ahead = True

    def __init__(self, spec: SynthesisSpec) -> None:
        context = multiprocessing.get_context("spawn")
        self._jobs, self._results = context.Queue(), context.Queue(1)
        threads = torch.get_num_threads()
        self._process = context.Process(
            target=_serve,
            args=(spec, self._jobs, self._results, threads),
            daemon=True,
            name="view-synthesis",
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Number of the worker's process."""
        return self._process.pid

    def submit(self, job: SetPlan | int | str) -> None:
        """Start a job."""
        self._jobs.put(job)

    def result(self):
        """Wait for the job.

        Raises:
            SynthesisError: If the worker failed or is gone.
        """
        while True:
            try:
                kind, value = self._results.get(timeout=_POLL)
                break
            except queue.Empty:
                if self._process.is_alive():
                    continue
                code = self._process.exitcode
                raise SynthesisError(
                    f"process that renders views: expected a result, got exit code {code}: see "
                    "its last lines above; a negative code is the signal that ended it (-9 "
                    "often means that memory ran out)"
                ) from None
        if kind == "error":
            raise SynthesisError(f"the process that renders views failed:\n{value}")
        return _from_arrays(value)

    def close(self) -> None:
        """End the worker; does not wait longer than ten seconds."""
        if self._process.is_alive():
            self._jobs.put(None)
            end = time.monotonic() + _PATIENCE
            while self._process.is_alive() and time.monotonic() < end:
                _drain(self._results)
                self._process.join(0.05)
            if self._process.is_alive():
                self._process.terminate()
        self._process.join(_PATIENCE)
        for channel in (self._jobs, self._results):
            channel.cancel_join_thread()
            channel.close()


def _drain(results) -> None:
    """Take what nobody wants any more, so that the worker can end."""
    try:
        results.get_nowait()
    except queue.Empty:
        return


def _to_arrays(value):
    if isinstance(value, torch.Tensor):
        return value.numpy()
    return (*(part.numpy() for part in value[:2]), *value[2:])


def _from_arrays(value):
    from .synthesizer import ViewSet

    if isinstance(value, tuple):
        return ViewSet(*(torch.from_numpy(part) for part in value[:2]), *value[2:])
    return torch.from_numpy(value)


def _serve(spec: SynthesisSpec, jobs, results, threads: int) -> None:
    """The worker's life."""
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    try:
        synthesizer = build_synthesizer(spec)
        while True:
            try:
                job = jobs.get(timeout=_POLL)
            except queue.Empty:
                if parent is not None and not parent.is_alive():
                    return
                continue
            if job is None:
                return
            results.put(("result", _to_arrays(_work(synthesizer, job))))
    except Exception:
        # Whatever it is, the trainer must hear of it.
        results.put(("error", traceback.format_exc()))


EXECUTORS = {"inline": InlineExecutor, "thread": ThreadExecutor, "process": ProcessExecutor}


def make_executor(kind: str, spec: SynthesisSpec):
    """Executor of a kind: ``inline``, ``thread`` or ``process``."""
    check_choice("executor", kind, EXECUTORS)
    return EXECUTORS[kind](spec)
