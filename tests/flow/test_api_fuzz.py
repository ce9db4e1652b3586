"""The control API of a live daemon, fuzzed by schemathesis with what it says of itself.

Whatever is sent, the answer is one that the document allows, well-formed, and never a 5xx other
than "not yet"; what the document allows is not refused as malformed, and what it does not is.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import requests
import schemathesis
import urllib3
from hypothesis import HealthCheck, Phase, settings
from requests.adapters import HTTPAdapter

from blocksnapctl.client import _UnixConnection
from blocksnapd.control.openapi import document
from tests.flow.kit import MIB, Site

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = 12  # of each operation, besides those at the borders of the schema
ANSWER_S = 20.0


class UnixPool(urllib3.HTTPConnectionPool):
    """Connections to a Unix socket, as urllib3 wants them."""

    class ConnectionCls(urllib3.connection.HTTPConnection):
        path = ""

        def connect(self) -> None:
            connection = _UnixConnection(self.path, ANSWER_S)
            connection.connect()
            self.sock = connection.sock

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self.ConnectionCls = type("Bound", (self.ConnectionCls,), {"path": path})


class UnixAdapter(HTTPAdapter):
    """Sends everything to one Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._pool = UnixPool(path)

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> UnixPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()


@pytest.fixture(scope="module")
def live() -> Iterator[Site]:
    site = Site()
    site.set_up(size=MIB)
    site.start()
    site.until_done()
    yield site
    assert site.end() == 0
    site.close()


@pytest.fixture(scope="module")
def session(live: Site) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.mount("http://", UnixAdapter(str(live.socket)))
        yield session


def told() -> Any:
    """Return what the daemon says of itself, without the stream that never ends."""
    found = copy.deepcopy(document())
    parameters = found["paths"]["/v1/events"]["get"]["parameters"]
    parameters[:] = [p for p in parameters if p["name"] != "follow"]
    return found


schema = schemathesis.openapi.from_dict(told())
schema.config.update(base_url="http://localhost")
# That a body is too large is a good reason, too.
schema.config.checks.negative_data_rejection.expected_statuses += ["413"]


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True,
    phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_any_request(case: schemathesis.Case, session: requests.Session, live: Site) -> None:
    if case.path_parameters and "volume" in case.path_parameters and len(str(case.body)) % 2:
        case.path_parameters["volume"] = str(live.image)  # so that more than 404 is seen
    case.call_and_validate(session=session, timeout=ANSWER_S)


def test_it_lives_and_protects_afterwards(live: Site) -> None:
    """Whatever was asked above: the volume gets its point."""
    live.ctl("resume", str(live.image), "--yes")
    assert live.run()["result"] == "success"
