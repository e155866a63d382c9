"""Metrics for Prometheus."""

from __future__ import annotations

from weevit.store.extras import needed

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_IMAGES = (1, 2, 4, 6, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters, gauges and histograms of a server, in a registry of their own."""

    def __init__(self) -> None:
        prometheus = needed("prometheus_client", "serve", "Metrics need prometheus-client, which is not installed.")
        self._registry = own = prometheus.CollectorRegistry()
        self._text, self.media_type = prometheus.generate_latest, prometheus.CONTENT_TYPE_LATEST
        self._requests = prometheus.Counter(
            "weevit_requests", "Requests that were answered.", ("route", "status"), registry=own
        )
        self._seconds = prometheus.Histogram(
            "weevit_request_seconds", "Seconds from the head of a request to its answer.", ("route",),
            buckets=_SECONDS, registry=own,
        )  # fmt: skip
        self._stages = prometheus.Histogram(
            "weevit_stage_seconds", "Seconds of an image's decoding, its wait for a batch, and of a batch.",
            ("model", "stage"), buckets=_SECONDS, registry=own,
        )  # fmt: skip
        self._batches = prometheus.Histogram(
            "weevit_batch_images", "Images computed together.", ("model",), buckets=_IMAGES, registry=own
        )
        self._errors = prometheus.Counter(
            "weevit_image_errors", "Images without an answer, by kind.", ("kind",), registry=own
        )
        self.queue = prometheus.Gauge(
            "weevit_queue_images", "Images that are accepted and not answered yet.", registry=own
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def observe(self, model: str, stage: str, value: float) -> None:
        """An `Observe` of `Models`."""
        if stage == "batch":
            self._batches.labels(model).observe(value)
        else:
            self._stages.labels(model, stage).observe(value)

    def error(self, kind: str) -> None:
        """Count an image without an answer."""
        self._errors.labels(kind).inc()

    def text(self) -> bytes:
        """In Prometheus' own format."""
        return bytes(self._text(self._registry))
