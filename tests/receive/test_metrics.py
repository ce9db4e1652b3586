"""What a receiver counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from blocksnapd.receive.metrics import ReceiveMetrics


def test_requests_bytes_and_reloads_are_counted():
    metrics = ReceiveMetrics(CollectorRegistry())
    metrics.request("db01", "put", "", 4096)
    metrics.request("db01", "put", "", 4)
    metrics.request("db01", "put", "E-QUOTA", 0)
    metrics.reloaded(is_good=False)
    lines = generate_latest(metrics.registry).decode().splitlines()
    assert 'blocksnap_receiver_requests_total{code="",host="db01",verb="put"} 2.0' in lines
    assert 'blocksnap_receiver_requests_total{code="E-QUOTA",host="db01",verb="put"} 1.0' in lines
    assert 'blocksnap_receiver_received_bytes_total{host="db01"} 4100.0' in lines
    assert "blocksnap_receiver_last_reload_successful 0.0" in lines
