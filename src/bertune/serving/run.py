"""Running the service: uvicorn in this process, with signals of our own for draining and reloading."""

import asyncio
import gc
import logging
import signal
import time
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from bertune.errors import FaultError, counted
from bertune.serving.errors import RequestError
from bertune.serving.http_protocol import GuardedProtocol
from bertune.serving.service import Service

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
_KEEP_ALIVE_SECONDS = 75
"""For which a connection may rest between two requests, as in nginx; with uvicorn's 5 a client that reuses one after a
short rest, or after a moment in which the machine stood still, finds it reset."""


class Server(uvicorn.Server):
    """uvicorn, which on SIGTERM first finishes what it has begun, and on SIGHUP loads its models again."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """The first signal drains, a second one stops at once. Either way the process ends with status 0."""
        if self._service.draining:
            self.should_exit = self.force_exit = True
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it would log each task that this cancels
            return
        self._service.draining = True
        logger.info("stopping; still in work: %s", counted(self._service.in_flight, "request"))
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(lambda: loop.create_task(self._drain()))  # wakes the loop up

    async def _drain(self) -> None:
        until = time.monotonic() + self._service.limits.drain_seconds
        while self._service.in_flight and time.monotonic() < until:
            await asyncio.sleep(_POLL_SECONDS)
        if self._service.in_flight:
            logger.warning("stopping; left unanswered: %s", counted(self._service.in_flight, "request"))
        self.should_exit = True

    async def startup(self, sockets: list["object"] | None = None) -> None:  # type: ignore[override]
        """Listen, then say where."""
        if hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload_all, self._service, set())
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            logger.info("serving on http://%s:%d  (page: /, addresses: /docs, stop: Ctrl-C)", shown, port)


def serve(app: Starlette, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        FaultError: the address cannot be listened on.
    """
    service: Service = app.state.service
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        proxy_headers=False,  # nothing here asks who the client is
        server_header=False,
        timeout_graceful_shutdown=max(1, int(service.limits.drain_seconds)),
    )
    server = Server(config, service)
    gc.collect()
    gc.freeze()  # models and modules stay: the collector need not go through them again and again
    try:
        server.run()  # in uvloop, where it is installed
    except SystemExit:  # uvicorn's answer to an address in use
        raise FaultError(f"cannot listen on {host}:{port}; is the port in use? --port 0 finds a free one") from None
    except KeyboardInterrupt:
        pass
    if not server.started:
        raise FaultError(f"cannot listen on {host}:{port}; is the port in use? --port 0 finds a free one")


def _reload_all(service: Service, under_way: set["asyncio.Task[None]"]) -> None:
    """On SIGHUP. under_way: keeps the tasks, of which the event loop itself takes no care."""

    async def reload() -> None:
        for served in service.models:
            try:
                await service.reloading.run(service.models.reload, served.name)
            except RequestError as error:
                logger.error("serving: %s: %s", served.name, error)

    task = asyncio.get_running_loop().create_task(reload())
    under_way.add(task)
    task.add_done_callback(under_way.discard)
