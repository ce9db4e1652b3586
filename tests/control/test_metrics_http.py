"""The Prometheus endpoint over TCP."""

from __future__ import annotations

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from blocksnapd.control.metrics_http import MetricsServer
from blocksnapd.errors import HostError
from blocksnapd.metrics import Metrics


async def test_scrape() -> None:
    metrics = Metrics(CollectorRegistry())
    server = MetricsServer(metrics.registry)
    addresses = await server.start([("127.0.0.1", 0)])
    try:
        async with aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{addresses[0][1]}"
            metrics.cow_disk_free("spare", 12345)
            async with http.get(f"{url}/metrics") as reply:
                assert reply.headers["Content-Type"].startswith("text/plain; version=")
                families = list(text_string_to_metric_families(await reply.text()))
            async with http.get(f"{url}/") as reply:
                assert reply.status == 404
            async with http.post(f"{url}/metrics") as reply:
                assert reply.status == 405
    finally:
        await server.stop()
    found = {s.name: s.value for family in families for s in family.samples}
    assert found["blocksnap_cow_disk_free_bytes"] == 12345


async def test_no_addresses_means_off() -> None:
    server = MetricsServer(CollectorRegistry())
    assert await server.start([]) == []
    await server.stop()
    await server.stop()


async def test_an_address_in_use_is_told() -> None:
    first, second = MetricsServer(CollectorRegistry()), MetricsServer(CollectorRegistry())
    taken = await first.start([("127.0.0.1", 0)])
    try:
        with pytest.raises(HostError, match=f"cannot listen on 127.0.0.1:{taken[0][1]}") as caught:
            await second.start([("127.0.0.1", 0), taken[0]])
        assert "listen = []" in caught.value.hint
    finally:
        await first.stop()
        await second.stop()
