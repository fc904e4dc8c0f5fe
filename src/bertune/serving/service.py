"""From the items of a request to their answers: the part that all protocols share."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from bertune.serving.errors import RequestError
from bertune.serving.metrics import ServiceMetrics
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
    reloading: "asyncio.Task[None] | None" = None
    _canaries: dict[str, tuple[float, str | None]] = field(default_factory=dict)

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
        if not items:
            return []
        estimated = [served.engine.estimate(item) for item in items]
        end = _End(asyncio.get_running_loop())
        self.models.pause.follow(end.loop)
        ticket = Ticket(items, estimated, end.answered)
        served = self._submitted(served, ticket)
        await self._wait(request, served, ticket, end)
        return self._checked(served, ticket, strict=strict)

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
        watcher = asyncio.ensure_future(_disconnected(request))
        watcher.add_done_callback(end.client_gone)
        clock = end.loop.call_later(self.limits.request_seconds, end.come, "late")
        how = "cancelled"
        try:
            how = await end.future
        finally:
            watcher.cancel()
            clock.cancel()
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
        self.metrics.items.labels(served.name).inc(len(answers))
        return answers

    async def not_ready(self) -> str | None:
        """Why no requests should be sent here now; None: all models answered a canary within the last seconds."""
        if self.draining:
            return "stopping"
        for served in self.models:
            at, problem = self._canaries.get(served.version + served.name, (0.0, None))
            if time.monotonic() - at > CANARY_EVERY:
                problem = await asyncio.to_thread(served.canary)
                self._canaries[served.version + served.name] = (time.monotonic(), problem)
            if problem is not None:
                return f"model {served.name}: {problem}"
        return None


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

    def client_gone(self, watcher: "asyncio.Task[None]") -> None:
        """The task that watches the connection has ended."""
        if not watcher.cancelled():
            watcher.exception()  # a stream that breaks off is a client that went away
            self.come("gone")


async def _disconnected(request: Request) -> None:
    """Ends when the client closes its connection."""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return
