"""A worker asks the daemon that protects a volume, over its control socket. Edge: aiohttp."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

import aiohttp
import yarl

from blocksnapd.control.messages import API_HEADER, JSON_TYPE
from blocksnapd.errors import (
    BlocksnapError,
    BusyError,
    HostError,
    NotAllowedError,
    NotFoundError,
    RefusedError,
    StoreError,
    UnreachableError,
)

if TYPE_CHECKING:
    from types import TracebackType

ANSWER_S_MAX: Final = 60.0
REPLY_SIZE_MAX: Final = 1 << 20
_CLASSES: Final[dict[int, type[BlocksnapError]]] = {
    error.exit_code: error for error in (NotFoundError, RefusedError, BusyError, NotAllowedError)
}
_CODES: Final[dict[str, type[BlocksnapError]]] = {StoreError.code: StoreError}


class DaemonClient:
    """``async with DaemonClient(path) as daemon:``; one question at a time."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(self._path),
            timeout=aiohttp.ClientTimeout(total=ANSWER_S_MAX),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def get(self, *path: str, **query: str) -> dict[str, Any]:
        """Return the document at ``/v1/`` + path; each part is percent-encoded here.

        Raises:
            UnreachableError: nobody answers. BlocksnapError: the daemon says no.
        """
        return await self._ask("GET", path, query, None)

    async def post(self, *path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send a document, return the one that comes back; raises as ``get``."""
        return await self._ask("POST", path, {}, body)

    async def _ask(
        self, method: str, path: tuple[str, ...], query: dict[str, str], body: object
    ) -> dict[str, Any]:
        target = "/v1/" + "/".join(quote(part, safe="") for part in path)
        url = yarl.URL(f"http://daemon{target}", encoded=True).with_query(query)
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": JSON_TYPE}
        try:
            async with self._session.request(method, url, data=data, headers=headers) as reply:
                text = await reply.content.read(REPLY_SIZE_MAX)
                while len(text) < REPLY_SIZE_MAX and (more := await reply.content.read(1 << 16)):
                    text += more
                found = json.loads(text)
                if API_HEADER not in reply.headers or not isinstance(found, dict):
                    raise self._unreachable("what listens there does not answer as a daemon does")
                if reply.status >= 400:
                    raise _refusal(found)
                return found
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise self._unreachable(str(error) or type(error).__name__) from error

    def _unreachable(self, why: str) -> UnreachableError:
        return UnreachableError(
            f"no daemon answers on {self._path}: {why}",
            hint="Start it: systemctl start blocksnapd. Then the same command again.",
        )


def _refusal(found: dict[str, Any]) -> BlocksnapError:
    code, exit_code = found.get("code"), found.get("exit_code")
    kind = _CODES.get(str(code)) or _CLASSES.get(exit_code if isinstance(exit_code, int) else 0)
    said = {key: str(found.get(key, "")) for key in ("message", "effect", "hint")}
    return (kind or HostError)(said["message"], effect=said["effect"], hint=said["hint"])
