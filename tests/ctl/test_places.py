"""A text with colons and slashes: every way to read it, the likeliest first."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksnapctl.client import ProblemError
from blocksnapctl.places import Place, found_place, readings

if TYPE_CHECKING:
    from blocksnapctl.client import Client
    from blocksnapctl.output import Output


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("vg0/home@latest:/etc/passwd", Place("vg0/home@latest", None, "/etc/passwd")),
        ("p51d9a0:/", Place("p51d9a0", None, "/")),
        ("latest:vg0/home:/a:b", Place("latest:vg0/home", None, "/a:b")),
        ("latest:/srv/disk.img:/etc", Place("latest:/srv/disk.img", None, "/etc")),
        ("latest:/srv/disk.img:", Place("latest:/srv/disk.img", None, "")),
        ("latest:/srv/disk.img", Place("latest:/srv/disk.img", None, "")),
        ("p51d9a0:2:/etc", Place("p51d9a0", 2, "/etc")),
        ("p51d9a0:2", Place("p51d9a0", 2, "")),
        ("vg0/home@2026-11-22T14:05:/etc", Place("vg0/home@2026-11-22T14:05", None, "/etc")),
        ("vg0/home@2026-11-22T14:05:2:/", Place("vg0/home@2026-11-22T14:05", 2, "/")),
        ("p51d9a0:/odd:/name", Place("p51d9a0", None, "/odd:/name")),
    ],
)
def test_the_first_that_names_a_point_is_meant(text: str, place: Place) -> None:
    points = {"vg0/home@latest", "p51d9a0", "latest:vg0/home", "latest:/srv/disk.img",
              "vg0/home@2026-11-22T14:05"}  # fmt: skip
    assert next(p for p in readings(text) if p.selector in points) == place


@given(st.text(alphabet=":/a1@", max_size=12))
def test_any_text_has_a_reading_that_loses_nothing(text: str) -> None:
    found = readings(text)
    assert found[-1].selector in {text, text.rpartition(":")[0]}
    for place in found:
        part = "" if place.part is None else f":{text[len(place.selector) + 1 :].split(':')[0]}"
        joined = f"{place.selector}{part}"
        assert text in {f"{joined}:{place.path}", joined}


class Asked:
    """A client that knows some selectors."""

    def __init__(self, *known: str) -> None:
        self.known = known

    def get(self, *path: str) -> dict[str, Any]:
        if path[1] in self.known:
            return {"id": path[1], "note": ""}
        code = "E-KEY" if path[1] == "secret" else "E-NOT-FOUND"
        raise ProblemError({"code": code, "message": f"no {path[1]}"})


def asked(client: Any, text: str) -> Place:
    output: Output = Namespace(say=lambda text: None)  # type: ignore[assignment]
    found: Client = client
    return found_place(output, found, Namespace(at=None, before=None, verb="ls"), text)[1]


def test_the_error_is_of_the_likeliest_reading() -> None:
    assert asked(Asked("p1"), "p1:2:/x") == Place("p1", 2, "/x")
    with pytest.raises(ProblemError, match="no p1:/b"):
        asked(Asked(), "p1:/b:/x")
    with pytest.raises(ProblemError, match="no secret"):
        asked(Asked("secret:/x"), "secret:/x")
