"""A configuration that changes under a running daemon: nothing under way is dropped."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

from tests.flow.kit import MIB, Site, told


def ctl_reload(site: Site) -> Any:
    return site.ctl("reload", "--json").documents[-1]


def test_a_run_under_way_goes_on(site: Site) -> None:
    """Its volume changes while it ships: the run ends well, then the new settings hold."""
    content = site.set_up(size=32 * MIB, compression=19)
    site.start()
    site.hold_while_it_ships(0.1)
    site.write_config('every = "2h"\nrpo = "5h"\n', compression=1)
    site.go_on()
    run = site.volume()["active_run"]["id"]
    found = site.client.post("reload", body={})
    assert (found["waiting"], found["restart"]) == ([str(site.image)], [])
    assert f'+ volumes."{site.image}".every_s = 7200.0' in found["changed"]
    done = dict(site.client.get("runs", run, wait="50s"))
    assert (done["state"], done["result"]) == ("done", "success")
    site.until(lambda: site.volume()["rpo"] == 5 * 3600)
    assert site.volume()["every"] == 2 * 3600
    assert site.until_done()["points"] == 1
    assert site.run()["result"] == "success"
    assert site.restored(f"latest:{site.image}") == content
    assert "nothing" in site.ctl("config", "diff", "--config", str(site.config)).out


def test_volumes_come_and_go(site: Site) -> None:
    """A second volume is protected after a reload and not any more after SIGHUP."""
    site.set_up(size=MIB)
    site.start()
    site.until_done()
    pid = site.client.get("status")["pid"]
    second = site.folder / "second.img"
    second.write_bytes(random.Random(3).randbytes(MIB))
    site.write_config(f'[volume."{second}"]\n')
    shown = site.ctl("config", "diff", "--config", str(site.config))
    assert shown.code == 0
    assert f'+ volumes."{second}".every_s = 3600.0' in shown.out
    assert ctl_reload(site)["waiting"] == []
    assert site.until(lambda: len(site.client.get("volumes")["volumes"]) == 2)
    site.until(lambda: site.volume(str(second))["points"] == 1)
    site.write_config("")
    assert site.daemon is not None
    site.daemon.send_signal(signal.SIGHUP)
    site.until(lambda: len(site.client.get("volumes")["volumes"]) == 1)
    assert site.client.get("status")["pid"] == pid
    assert site.run()["result"] == "success"
    kinds = [e["type"] for e in site.ctl("events", "--json").documents]
    assert kinds.count("config-reloaded") == 2
    assert site.end() == 0


def test_a_wrong_one_changes_nothing(site: Site) -> None:
    site.set_up(size=MIB)
    site.start()
    before = site.client.get("config")["settings"]
    site.write_config('evry = "1m"\n')
    told(site.ctl("reload"), 78, "did you mean 'every'?", "[E-CONFIG]")
    assert site.client.get("config")["settings"] == before
    assert site.run()["result"] == "success"
    site.write_config(socket=site.folder / "other.sock")
    done = site.ctl("reload")
    assert done.code == 13
    assert "other.sock" in done.err
    assert "takes a restart" in done.err
    assert site.client.get("config")["settings"] == before


def test_who_changed_what_is_in_the_event_log(site: Site) -> None:
    """With process, user id and name, also of what was refused by the daemon afterwards."""
    site.set_up(size=MIB)
    site.start()
    site.until_done()
    name = str(site.image)
    assert site.ctl("pause", name, "--reason", "test").code == 0
    assert site.ctl("resume", name).code == 0
    assert site.ctl("run", name, "--wait").code == 0
    assert site.ctl("status").code == 0
    said = [e for e in site.ctl("events", "--json").documents if e["type"] == "asked"]
    assert len(said) == 3
    for event, word in zip(said, ("paused", "resumed", "asked for"), strict=True):
        who = event["data"]["who"]
        assert (who["uid"], event["volume"]) == (os.geteuid(), name)
        assert who["pid"] > 1
        assert f"(pid {who['pid']}) {word}" in event["message"]
