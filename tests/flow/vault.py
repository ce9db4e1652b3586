"""A receiver beside a site, as a process of its own. Edge."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from tests.fakes.certificates import Authority
from tests.flow.kit import LIMIT_S, started
from tests.servers.ports import free_ports
from tests.servers.receive_settings import SETTINGS

if TYPE_CHECKING:
    import subprocess

    from tests.fakes.certificates import Signed
    from tests.flow.kit import Site


class Vault:
    """The receiver's host, in a folder of the source's."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.authority = Authority(site.folder / "pki")
        self.root = site.folder / "vault"
        self.root.mkdir()
        self.config, self.log = site.folder / "receive.toml", site.folder / "receive.log"
        [self.tcp_port] = free_ports(1)
        self.url = f"https://127.0.0.1:{self.tcp_port}/"
        self.process: subprocess.Popen[bytes] | None = None
        self.own = self.authority.receiver()
        self.tell("")

    def tell(self, more: str) -> None:
        """Write the configuration; ``more`` is said of every host."""
        self.config.write_text(
            SETTINGS.format(tcp_port=self.tcp_port, root=self.root, ca=self.authority.ca,
                            cert=self.own.cert, key=self.own.key, more=more)
        )  # fmt: skip

    def start(self) -> None:
        """Start the receiver; return once it is ready."""
        program = ("-m", "blocksnapd", "receive", "--config", str(self.config))
        self.process = started((sys.executable, *program), self.log)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(LIMIT_S)
        self.process = None
        return code

    def reload(self, more: str) -> None:
        """Have the receiver take up another configuration."""
        before = self.log.read_text().count("read again")
        self.tell(more)
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        self.site.until(lambda: self.log.read_text().count("read again") > before)

    def environment(self, signed: Signed) -> dict[str, str]:
        """Return what a command needs to come in with a certificate."""
        return {"BLOCKSNAP_CA": self.authority.ca, "BLOCKSNAP_CERT": signed.cert,
                "BLOCKSNAP_CERT_KEY": signed.key}  # fmt: skip
