"""Frames keep values where they belong; text and classes are escaped."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from blocksnapctl import svg


def test_the_corners_of_a_frame() -> None:
    frame = svg.Frame(10, 20, 5)
    assert (frame.x(10), frame.x(20)) == (svg.LEFT, svg.WIDTH - svg.RIGHT)
    assert (frame.y(0), frame.y(5)) == (frame.height - svg.BOTTOM, svg.TOP)


def test_a_frame_without_extent_divides_by_nothing() -> None:
    frame = svg.Frame(10, 10, 0)
    assert frame.x(10) == svg.LEFT
    assert frame.y(0) == frame.height - svg.BOTTOM


def test_what_is_drawn_is_whole_xml_whatever_it_says() -> None:
    evil = """</text><script>"'&"""
    parts = [
        svg.text(1, 2, evil), svg.box(0, 0, 1, -1, "h0", evil), svg.path([(0, 0), (1, 1)], evil),
        svg.line(0, 0, 1, 1, "grid"), svg.path([], "x"), svg.Frame(0, 1, 1).axes(str, str),
    ]  # fmt: skip
    found = ET.fromstring(svg.drawing(100, evil, parts))
    assert next(found.iter("text")).text == evil
    assert found.attrib["aria-label"] == evil
    assert next(found.iter("rect")).attrib["height"] == "0.00"
    assert not list(found.iter("script"))
