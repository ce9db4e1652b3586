"""What a receiver counts: one table. Edge: reads /proc when scraped."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, ProcessCollector, disable_created_metrics

from blocksnapd import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry

_PREFIX = "blocksnap_receiver_"


class ReceiveMetrics:
    """All series of one receiver, in ``registry``; a scrape reads memory alone."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry
        self._requests = Counter(
            f"{_PREFIX}requests_total", "Requests by verb and, if refused, why.",
            ("host", "verb", "code"), registry=registry,
        )  # fmt: skip
        self._received = Counter(
            f"{_PREFIX}received_bytes_total", "Bytes of objects that hosts put.",
            ("host",), registry=registry,
        )  # fmt: skip
        self._maintained = Gauge(
            f"{_PREFIX}maintenance_last_success_timestamp_seconds",
            "Instant of the last round of maintenance that went well. Absent: none yet.",
            ("host",), registry=registry,
        )  # fmt: skip
        self._unmaintained = Counter(
            f"{_PREFIX}maintenance_failures_total", "Rounds of maintenance that failed.",
            ("host",), registry=registry,
        )  # fmt: skip
        self._reload = Gauge(
            f"{_PREFIX}last_reload_successful", "0 if the last SIGHUP changed nothing.",
            registry=registry,
        )  # fmt: skip
        self._reload.set(1)
        build = Gauge(
            f"{_PREFIX}build_info", "Always 1; what is running.", ("version", "python"),
            registry=registry,
        )  # fmt: skip
        build.labels(__version__, platform.python_version()).set(1)
        self._certificates = Gauge(
            "blocksnap_tls_certificate_expiry_timestamp_seconds",
            "Until when a certificate is good.", ("target", "role"), registry=registry,
        )  # fmt: skip
        ProcessCollector(registry=registry)

    def request(self, host: str, verb: str, code: str, taken: int) -> None:
        """A request of ``host`` ended; ``code`` is the error's, ``taken`` what it put."""
        self._requests.labels(host, verb, code).inc()
        if taken:
            self._received.labels(host).inc(taken)

    def maintained(self, host: str, *, is_good: bool, now: float) -> None:
        """A round of maintenance of ``host`` ended."""
        if is_good:
            self._maintained.labels(host).set(now)
        self._unmaintained.labels(host).inc(0 if is_good else 1)

    def reloaded(self, *, is_good: bool) -> None:
        """A SIGHUP was followed, or not."""
        self._reload.set(is_good)

    def certificates(self, ends: Mapping[str, float]) -> None:
        """The receiver's own certificates are good until then, by role."""
        for role, instant in ends.items():
            self._certificates.labels("", role).set(instant)
