"""From what ``[receive]`` says to where its hosts are kept. Edge."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from blocksnapd.receive.bucket import BucketRoot
from blocksnapd.receive.roots import DirectoryRoot
from blocksnapd.s3_url import is_s3

if TYPE_CHECKING:
    from blocksnapd.config_receive import ReceiveConfig
    from blocksnapd.receive.roots import Root


def open_root(config: ReceiveConfig) -> Root:
    """Open where the hosts are kept; nothing is asked of it yet.

    Raises:
        UsageError: the libraries for object storage are not installed.
        KeyMissingError: there are no credentials for it.
    """
    receive = config.receive
    if not is_s3(receive.root):
        return DirectoryRoot(receive.root)
    # Two receivers on one host have two configurations; each says a floor of its own.
    keeper = f"{socket.gethostname()}:{config.path}"
    return BucketRoot(receive.root, receive.credentials, receive.spool, keeper)
