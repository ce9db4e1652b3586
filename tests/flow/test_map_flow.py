"""The map of a real volume: by the daemon with its key, by a worker with the operator's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.flow.kit import MIB, told

if TYPE_CHECKING:
    from tests.flow.kit import Site


def test_what_was_written_shows_where_and_when(site: Site) -> None:
    site.set_up(size=4 * MIB)
    site.start()
    site.until_done()
    for number in range(1, 4):
        site.write_image((number * MIB, bytes([number]) * 8192))
        assert site.run()["result"] == "success"
    volume = str(site.image)
    told(site.ctl("map", volume), 77, "no maintenance_key", "--repo URL --key FILE")
    (found,) = site.ctl("--json", "map", volume, "--regions", "4", key=True).documents
    assert found["region_size"] == MIB
    expected = [[8192 if region == n else 0 for region in range(4)] for n in range(1, 4)]
    assert found["matrix"][1:] == expected
    assert [c["full"] for c in found["cycles"]] == [True, False, False, False]
    (bare,) = site.ctl(
        "--repo", str(site.repository), "--json", "map", volume, "--regions", "4", key=True
    ).documents
    assert bare == found
    assert site.end() == 0
    text = site.config.read_text()
    source = f'source_key = "{site.keys}/source.key"'
    text = text.replace(source, f'{source}\nmaintenance_key = "{site.keys}/maintenance.key"')
    site.config.write_text(text)
    site.start()
    site.until(lambda: site.ctl("map", volume).code == 0)
    (known,) = site.ctl("--json", "map", volume, "--regions", "4").documents
    assert known["matrix"] == found["matrix"]
    page = site.folder / "page.html"
    done = site.ctl("report", volume, "--html", str(page))
    assert done.code == 0, done
    assert page.read_text().count("<svg") == 3  # no COW device here
    assert site.ctl("report", volume, "--html", str(page), key=True).code == 0
    picture = site.ctl("map", volume, "--regions", "4").out.splitlines()
    assert [line.partition("│")[2] for line in picture[2:6]] == ["┆", "┆░", "┆ ░", "┆  ░"]
