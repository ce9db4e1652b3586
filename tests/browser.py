"""A real browser without a window: opens a page, tells what it measured or logged. Edge."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest

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

needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs chromium (Debian: chromium)")


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


def measured(folder: Path, text: str, width: int) -> dict[str, Any]:
    """Return what the browser finds in a page: see ``MEASURE``."""
    text = text.replace("</body>", f"{MEASURE}</body>")
    out, said = browse(folder, text, "--dump-dom", width=width)
    assert "CONSOLE" not in said, said
    told = re.search(r'<pre id="found">(.*?)</pre>', out)
    assert told is not None, out[-2000:]
    return dict(json.loads(unescape(told[1])))
