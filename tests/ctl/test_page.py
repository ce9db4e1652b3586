"""A volume's page in a real browser: it renders, nothing overlaps, nothing hostile comes alive."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC
from html import unescape
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from blocksnapctl.charts import Clock
from blocksnapctl.page import Findings, page
from tests.ctl.example_page import HOSTILE, NOW, findings

if TYPE_CHECKING:
    from pathlib import Path

BROWSER = shutil.which("chromium")
# What the browser itself measures once it has laid the page out.
MEASURE = """
<script>
const boxes = [...document.querySelectorAll('svg')].map(svg =>
  [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]));
const over = boxes.flatMap(texts => texts.flatMap(([a, r], i) => texts.slice(i + 1)
  .filter(([b, s]) => r.left < s.right && s.left < r.right && r.top < s.bottom && s.top < r.bottom)
  .map(([b]) => [a, b])));
const drawings = [...document.querySelectorAll('svg')];
const found = {
  over, marks: drawings.map(s => s.querySelectorAll('path,rect').length),
  widths: drawings.map(s => s.getBoundingClientRect().width),
  sideways: document.documentElement.scrollWidth > innerWidth,
  strange: document.querySelectorAll('img,iframe,object,link,script').length,
  loaded: performance.getEntriesByType('resource').length, width: innerWidth,
};
document.body.innerHTML = '<pre id="found"></pre>';
document.getElementById('found').textContent = JSON.stringify(found);
</script>
"""


class Tags(HTMLParser):
    """All tags, with the attributes they have."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def browse(folder: Path, text: str, *words: str, width: int = 1000) -> tuple[str, str]:
    """Open ``text`` in a browser; return the page as it is then, and what it logged."""
    assert BROWSER is not None
    file = folder / "page.html"
    file.write_text(text)
    done = subprocess.run(
        [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--hide-scrollbars", "--enable-logging=stderr", f"--user-data-dir={folder}/profile",
         f"--window-size={width},2400", *words, f"file://{file}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr


def measured(folder: Path, found: Findings, width: int) -> dict[str, Any]:
    text = page(found, Clock(UTC)).replace("</body>", f"{MEASURE}</body>")
    out, said = browse(folder, text, "--dump-dom", width=width)
    assert "CONSOLE" not in said, said
    told = re.search(r'<pre id="found">(.*?)</pre>', out)
    assert told is not None, out[-2000:]
    return dict(json.loads(unescape(told[1])))


needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs chromium (Debian: chromium)")


@needs_browser
@pytest.mark.parametrize("width", [600, 1200])
def test_a_browser_shows_it(tmp_path: Path, width: int) -> None:
    found = measured(tmp_path, findings(), width)
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
    found = measured(tmp_path, findings(name=HOSTILE, tag=HOSTILE, said=HOSTILE), 1000)
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
