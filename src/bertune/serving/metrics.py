"""Prometheus metrics of a service."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bertune.serving.served import Models

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_TOKENS = (8, 32, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class ServiceMetrics:
    """Counts, latencies by stage, batch sizes, queues and versions, for `/metrics`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def histogram(name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"bertune_{name}", text, labels, buckets=buckets, registry=self.registry)

        self._requests = Counter(
            "bertune_requests", "requests by route and status", ("route", "status"), registry=self.registry
        )
        self.errors = Counter("bertune_errors", "refused or failed requests by kind", ("kind",), registry=self.registry)
        self._items = Counter("bertune_items", "items answered", ("model",), registry=self.registry)
        self.dropped = Counter(
            "bertune_dropped", "requests whose client went away before the answer", ("model",), registry=self.registry
        )
        self._seconds = histogram("request_seconds", "from request to answer", ("route",), _SECONDS)
        self._stages = {
            f"{stage}_seconds": histogram(f"{stage}_seconds", text, ("model",), _SECONDS)
            for stage, text in (
                ("queue", "from request to tokenizing"),
                ("tokenize", "tokenizing one group of items"),
                ("wait_for_other_models", "waiting while another model computes"),
                ("compute", "computing one batch"),
                ("decode", "decoding one group of items"),
            )
        }
        self._stages["batch_tokens"] = histogram("batch_tokens", "tokens of a batch", ("model",), _TOKENS)
        self._stages["batch_items"] = histogram("batch_items", "items of a batch", ("model",), _ITEMS)
        self._queued = Gauge(
            "bertune_queue_tokens", "tokens that wait or are computed", ("model",), registry=self.registry
        )
        # What is counted for every request, by its labels: to look a child up there takes longer than to count.
        self._children: dict[tuple[str, str], Histogram] = {}
        self._routes: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._answered: dict[str, Counter] = {}
        self._info = Gauge("bertune_model_info", "1 for the version that answers", ("model", "version", "task"),
                           registry=self.registry)  # fmt: skip

    def observe(self, model: str, name: str, value: float) -> None:
        """A measurement of a model's batcher."""
        child = self._children.get((model, name))
        if child is None:
            child = self._children[model, name] = self._stages[name].labels(model)
        child.observe(value)

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request that has ended. route: its pattern, never its address, which has no bounds."""
        found = self._routes.get((route, status))
        if found is None:
            found = self._requests.labels(route, str(status)), self._seconds.labels(route)
            self._routes[route, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def answered(self, model: str, items: int) -> None:
        """Items that a model has answered."""
        child = self._answered.get(model)
        if child is None:
            child = self._answered[model] = self._items.labels(model)
        child.inc(items)

    def render(self, models: Models) -> bytes:
        """The text that Prometheus reads."""
        self._info.clear()
        for served in models:
            self._queued.labels(served.name).set(served.batcher.queued_tokens)
            self._info.labels(served.name, served.version, served.model.task.name).set(1)
        return generate_latest(self.registry)
