"""reload: what it tells, and its exit code."""

from __future__ import annotations

from blocksnapctl import reloading
from blocksnapd.errors import ConfigError
from tests.control.serving import serving
from tests.ctl.calling import calling


async def test_what_is_different_now() -> None:
    async with serving() as served:
        found = await calling("reload", "--socket", served.path)
        assert found.code == 13
        assert '+ volumes."vg0/home".every_s = 60.0\n' in found.out
        assert "vg0/home: its run under way is seen through first." in found.err
        assert "takes a restart" in found.err
        document = (await calling("reload", "--json", "--socket", served.path)).lines[0]
        assert document["waiting"] == ["vg0/home"]
        text, who, _ = served.operations.notes[0]
        assert f"(pid {who['pid']}) asked for a reload" in text
    assert reloading.reload.__doc__


async def test_a_wrong_configuration() -> None:
    async with serving() as served:
        served.operations.failure = ConfigError("volume.x is no key", hint="Edit it.")
        found = await calling("reload", "--socket", served.path)
        assert (found.code, found.out) == (78, "")
        assert "volume.x is no key [E-CONFIG]" in found.err
