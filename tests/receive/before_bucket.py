"""A receiver before a bucket, in a thread of the test; several may stand before one.

with BeforeBucket(tmp_path / "a", seaweed) as a, BeforeBucket(tmp_path / "b", seaweed, a.url) as b:
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.s3_url import below_s3_url
from tests.receive.running import Running

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.store.s3 import S3Store
    from tests.servers.seaweed import SeaweedFs


class BeforeBucket(Running):
    """``url`` is the prefix of all hosts; a new one if it is not given."""

    def __init__(self, folder: Path, weed: SeaweedFs, url: str = "", **host: object) -> None:
        super().__init__(folder, **host)
        self.weed, self.url, self.spool = weed, url or weed.url(), folder / "spool"
        self.receive(root=self.url, credentials=weed.admin, spool=str(self.spool))
        self.config = self.config.model_copy(update={"path": str(folder / "receive.toml")})

    def bucket(self, host: str) -> S3Store:
        """Return the objects of a host, as whoever holds the bucket's credentials reaches them."""
        return self.weed.store(below_s3_url(self.url, host))
