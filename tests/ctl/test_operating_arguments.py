"""The verbs of operating: what they take."""

from __future__ import annotations

import pytest

from blocksnapctl.arguments import make_parser
from blocksnapctl.operating_arguments import PASSED_ON


def test_what_they_take() -> None:
    parse = make_parser("/s").parse_args
    assert parse(["explain", "late", "vg0/home"]).items == ["late", "vg0/home"]
    assert parse(["check"]).volumes == []
    assert parse(["wait", "r1", "--timeout", "5s"]).timeout == 5
    assert parse(["config", "show", "--config", "/x"]).action == "show"
    with pytest.raises(SystemExit):
        parse(["config", "edit"])


def test_what_is_passed_on_is_in_the_tree() -> None:
    for verb in PASSED_ON:
        assert verb in make_parser("/s").format_help()
