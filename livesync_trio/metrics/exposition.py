"""The metrics as text that Prometheus reads. The only file that knows `prometheus_client`, which takes 50 ms to import.

Whoever wants the metrics asks `metrics.Metrics`, which loads this file when it is needed.
"""

import math
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from livesync_trio.metrics.declared import METRICS, Metric
from livesync_trio.metrics.snapshot import Snapshot, Sources
from livesync_trio.telemetry import Histogram


class Exposition:
    """The metrics of one server, and those of its process."""

    def __init__(self, sources: Sources) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_ServerCollector(sources))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def render(self) -> tuple[bytes, str]:
        """All metrics as they are now.

        Called in the Trio thread, since it reads what only that may touch; milliseconds with thousands of connections.

        Returns:
            The body, and its content type.
        """
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4


class _ServerCollector(Collector):
    """Reads a server when it is asked for its metrics."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def describe(self) -> list[Family]:
        """Nothing: a registry that knows no names beforehand need not look at the server to make one."""
        return []

    def collect(self) -> Iterator[Family]:
        """Every metric that is declared."""
        snapshot = Snapshot.of(self._sources)
        for metric in METRICS:
            yield _family(metric, snapshot)


def _family(metric: Metric, snapshot: Snapshot) -> Family:
    samples = metric.read(snapshot)
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in samples:
            assert isinstance(value, Histogram)
            histogram.add_metric(labels, _buckets(value), value.total)
        return histogram
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        assert not isinstance(value, Histogram)
        family.add_metric(labels, float(value))
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus wants them, each with its upper end."""
    cumulative, buckets = 0, []
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        cumulative += count
        buckets.append(("+Inf" if math.isinf(bound) else str(bound), float(cumulative)))
    return buckets
