"""From the items of a request to their answers: the part that all protocols share."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from starlette.requests import Request

from bertune.serving.connection import connection_of
from bertune.serving.errors import RequestError
from bertune.serving.metrics import ServiceMetrics
from bertune.serving.one_at_a_time import OneAtATime
from bertune.serving.options import ServeLimits
from bertune.serving.served import Models, ServedModel
from bertune.serving.tickets import Ticket

Prediction = dict[str, Any]

CANARY_EVERY = 5.0
"""Seconds for which a canary's answer counts."""


class ClientGoneError(Exception):
    """The client closed its connection; nobody reads an answer."""


@dataclass(eq=False)
class Service:
    """Models, limits, counts, and whether new work is taken."""

    models: Models
    limits: ServeLimits
    metrics: ServiceMetrics
    draining: bool = False
    in_flight: int = 0
    explaining: OneAtATime = field(default_factory=lambda: OneAtATime(8))
    """An explanation computes gradients of many texts; one at a time leaves the processor to the answers."""
    reloading: OneAtATime = field(default_factory=lambda: OneAtATime(8))
    _canaries: WeakKeyDictionary[ServedModel, tuple[float, str | None]] = field(default_factory=WeakKeyDictionary)
    _asking: WeakKeyDictionary[ServedModel, "asyncio.Task[str | None]"] = field(default_factory=WeakKeyDictionary)

    async def answer(
        self, request: Request, served: ServedModel, items: Sequence[Any], *, strict: bool = False
    ) -> list[Prediction]:
        """The answers to some items, in order; each carries `truncated` and `tokens`.

        Args:
            request: whose client may go away.
            served: the model; when it is replaced meanwhile, the new one answers.
            items: what the task takes.
            strict: refuse items of which the length limit cut something off.

        Raises:
            RequestError: an item that the task cannot take, no room, no time.
            ClientGoneError: the client went away.
        """
        return (await self.answer_and_model(request, served, items, strict=strict))[0]

    async def answer_and_model(
        self, request: Request, served: ServedModel, items: Sequence[Any], *, strict: bool = False
    ) -> tuple[list[Prediction], ServedModel]:
        """`answer`, and the model that gave them: the one asked, or its successor."""
        if not items:
            return [], served
        estimated = [served.engine.estimate(item) for item in items]
        end = _End(asyncio.get_running_loop())
        self.models.pause.follow(end.loop)
        ticket = Ticket(items, estimated, end.answered)
        served = self._submitted(served, ticket)
        await self._wait(request, served, ticket, end)
        return self._checked(served, ticket, strict=strict), served

    def _submitted(self, served: ServedModel, ticket: Ticket) -> ServedModel:
        try:
            served.batcher.submit(ticket)
        except RequestError as error:
            successor = self.models.get(served.name)
            if error.status != 503 or successor is served:
                raise
            successor.batcher.submit(ticket)
            return successor
        return served

    async def _wait(self, request: Request, served: ServedModel, ticket: Ticket, end: "_End") -> None:
        """Until the ticket is answered, the client is gone or the time is up."""
        clock = end.loop.call_later(self.limits.request_seconds, end.come, "late")
        stop_watching = _watched(request, end)
        how = "cancelled"
        try:
            how = await end.future
        finally:
            clock.cancel()
            stop_watching()
            if how != "answered":
                served.batcher.cancel(ticket)
        if how == "gone":
            self.metrics.dropped.labels(served.name).inc()
            raise ClientGoneError
        if how == "late":
            raise RequestError(
                504, "timeout", f"no answer within {self.limits.request_seconds:g} s; send less or try again"
            )

    def _checked(self, served: ServedModel, ticket: Ticket, *, strict: bool) -> list[Prediction]:
        if ticket.error is not None:
            raise ticket.error
        answers = [answer for answer in ticket.answers if answer is not None]
        if ticket.started is not None:
            self.metrics.observe(served.name, "queue_seconds", ticket.started - ticket.submitted)
        if all("error_type" in answer for answer in answers):
            raise RequestError(500, str(answers[0]["error_type"]), f"item 0: {answers[0]['error']}")
        if strict and (cut := [index for index, answer in enumerate(answers) if answer["truncated"]]):
            raise RequestError(
                422,
                "too_long",
                f"item {cut[0]}: longer than {served.model.max_seq_length} tokens, and truncate is false",
            )
        self.metrics.answered(served.name, len(answers))
        return answers

    async def not_ready(self) -> str | None:
        """Why no requests should be sent here now; None: all models answered a canary within the last seconds."""
        if self.draining:
            return "stopping"
        for served in self.models:
            at, problem = self._canaries.get(served, (0.0, None))
            if time.monotonic() - at > CANARY_EVERY:
                problem = await self._canary(served)
            if problem is not None:
                return f"model {served.name}: {problem}"
        return None

    async def _canary(self, served: ServedModel) -> str | None:
        """What is wrong with a model; all who ask at a time share one answer, as a stuck model holds it back."""
        asking = self._asking.get(served)
        if asking is None or asking.done():
            asking = self._asking[served] = asyncio.create_task(asyncio.to_thread(served.canary))
        problem = await asyncio.shield(asking)
        self._canaries[served] = (time.monotonic(), problem)
        return problem


class _End:
    """How a request ends, whatever comes first: `answered`, `gone` or `late`. Cheaper than a wait for several tasks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.future = loop, loop.create_future()

    def come(self, how: str) -> None:
        """It has come; later ends do not count."""
        if not self.future.done():
            self.future.set_result(how)

    def answered(self) -> None:
        """Called by the batcher's threads."""
        self.loop.call_soon_threadsafe(self.come, "answered")

    def gone(self) -> None:
        """The client has closed its connection."""
        self.come("gone")

    def client_gone(self, watcher: "asyncio.Task[None]") -> None:
        """The task that watches the connection has ended."""
        if not watcher.cancelled():
            watcher.exception()  # a stream that breaks off is a client that went away
            self.gone()


def _watched(request: Request, end: _End) -> Callable[[], object]:
    """End early when the client closes its connection. Returns what stops the watch."""
    connection = connection_of(request)
    if connection is not None:
        connection.watch(end.gone)
        return connection.leave
    watcher = asyncio.ensure_future(_disconnected(request))  # under another server
    watcher.add_done_callback(end.client_gone)
    return watcher.cancel


async def _disconnected(request: Request) -> None:
    """Ends when the client closes its connection."""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return
