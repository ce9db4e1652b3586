"""A volume's page in a real browser: it renders, nothing overlaps, nothing hostile comes alive."""

from __future__ import annotations

from datetime import UTC
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from blocksnapctl.charts import Clock
from blocksnapctl.page import Findings, page
from tests.browser import browse, measured, needs_browser
from tests.ctl.example_page import HOSTILE, NOW, findings

if TYPE_CHECKING:
    from pathlib import Path


class Tags(HTMLParser):
    """All tags, with the attributes they have."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


@needs_browser
@pytest.mark.parametrize("width", [600, 1200])
def test_a_browser_shows_it(tmp_path: Path, width: int) -> None:
    found = measured(tmp_path, page(findings(), Clock(UTC)), width)
    assert found["width"] == width
    assert found["over"] == []
    assert not found["sideways"]
    wanted = (100, 100, 2, 1000)  # exposure, sizes, COW fill, map
    assert all(a >= b for a, b in zip(found["marks"], wanted, strict=True)), found["marks"]
    assert all(width / 2 < drawn <= width for drawn in found["widths"])
    assert (found["strange"], found["loaded"]) == (1, 0)  # the script that measures


@needs_browser
def test_a_picture_of_it(tmp_path: Path) -> None:
    shot = tmp_path / "page.png"
    _, said = browse(tmp_path, page(findings(), Clock(UTC)), f"--screenshot={shot}")
    assert "CONSOLE" not in said
    data = shot.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 50_000  # a blank page of this size has a tenth of it


@needs_browser
def test_nothing_hostile_comes_alive(tmp_path: Path) -> None:
    text = page(findings(name=HOSTILE, tag=HOSTILE, said=HOSTILE), Clock(UTC))
    found = measured(tmp_path, text, 1000)
    assert (found["strange"], found["loaded"], found["over"]) == (1, 0, [])


def test_what_comes_from_outside_is_text() -> None:
    text = page(findings(name=HOSTILE, tag=HOSTILE, said=HOSTILE), Clock(UTC))
    seen = Tags(text).seen
    assert not {tag for tag, _ in seen} & {"script", "img", "link", "iframe", "object", "a"}
    names = {name for _, attributes in seen for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in {"src", "href"}]
    assert "url(" not in text
    assert "@import" not in text
    assert text.count("&lt;script&gt;") >= 5  # it is there, as text


def test_of_a_volume_that_nobody_knows_much_of() -> None:
    text = page(Findings("vg0/new", NOW, why_no_map="there is no key & none <here>"), Clock(UTC))
    assert "There is no point yet." in text
    assert "there is no key &amp; none &lt;here&gt;" in text
    assert "not known" in text
    assert "<svg" not in text
