"""Threads that run at once, in the caller's: so that a seed plays the same history every time."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class InlineExecutor(Executor):
    """A ThreadPoolExecutor without threads: work is done when it is submitted."""

    def __init__(self, max_workers: int | None = None, thread_name_prefix: str = "") -> None:
        """Take what ThreadPoolExecutor takes."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """There is nothing to wait for."""
