"""TOML files → tables and models, with a place for every complaint. Edge: reads files.

Knows nothing of what the keys mean: ``config.py`` says that. Complaints are collected, so that
one look at the file repairs all of it.
"""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from blocksnapd.errors import ConfigError
from blocksnapd.toml_lines import format_path, key_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import ErrorDetails

FILE_SIZE_MAX = 1 << 20
PROBLEMS_MAX = 20
EFFECT = "Nothing was started or changed."
HINT = "Edit the file, then run: blocksnapctl config check"

KeyPath: TypeAlias = tuple[str, ...]
Model = TypeVar("Model", bound=BaseModel)

_SENTENCES = {
    "missing": "is missing",
    "string_type": "must be a text in quotes",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
}


class Document:
    """One configuration, gathered from files: ``tables`` and what is wrong with them."""

    def __init__(self) -> None:
        self.tables: dict[str, Any] = {}
        self._places: dict[KeyPath, str] = {}
        self._problems: list[str] = []

    def read(self, path: str, *, merged: frozenset[str] = frozenset()) -> None:
        """Add a file. Sections in ``merged`` may grow by further names, others stand once.

        Raises:
            ConfigError: the file cannot be read or is not TOML.
        """
        text = _read_text(path)
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise _syntax_error(path, text, error) from error
        places = {key: f"{path}:{line}" for key, line in key_lines(text).items()}
        for section, content in tables.items():
            known = self.tables.get(section)
            if section not in self.tables:
                self.tables[section] = content
            elif section in merged and isinstance(known, dict) and isinstance(content, dict):
                for name in known.keys() & content.keys():
                    self._complain_twice((section, name), places)
                self.tables[section] = content | known
            elif known != content:
                self._complain_twice((section,), places)
        self._places = places | self._places

    def complain(self, key: KeyPath, text: str) -> None:
        """Note what is wrong with ``key``: a sentence without its subject."""
        where = _nearest(self._places, key)
        self._problems.append(f"{where + ': ' if where else ''}{format_path(key)} {text}")

    def unknown(self, key: KeyPath, known: Iterable[str]) -> None:
        """Note that ``key`` is none of the ``known`` ones."""
        self.complain(key, f"is not a key of blocksnap{did_you_mean(key[-1], known)}")

    def validate(self, model: type[Model], raw: object, key: KeyPath) -> Model | None:
        """Return ``raw``, the table under ``key``, as a model; None after complaints."""
        try:
            return model.model_validate(raw)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self._explain(model, key, detail)
            return None

    def table(self, section: str) -> Mapping[str, object]:
        """Return a section that must be a table; empty when it is missing or is none."""
        content = self.tables.get(section, {})
        if not isinstance(content, dict):
            self.complain((section,), "must be a table")
            return {}
        return content

    def raise_problems(self) -> None:
        """End here if there were complaints.

        Raises:
            ConfigError: all of them.
        """
        if not self._problems:
            return
        more = len(self._problems) - PROBLEMS_MAX
        lines = self._problems[:PROBLEMS_MAX] + ([f"… and {more} more"] if more > 0 else [])
        raise ConfigError(
            "\n".join(lines),
            effect=EFFECT,
            hint=HINT,
        )

    def _complain_twice(self, key: KeyPath, places: dict[KeyPath, str]) -> None:
        first = _nearest(self._places, key)
        self._problems.append(f"{_nearest(places, key)}: {format_path(key)} is in {first} already")

    def _explain(self, model: type[BaseModel], key: KeyPath, detail: ErrorDetails) -> None:
        path = tuple(part for part in detail["loc"] if isinstance(part, str))
        kind = detail["type"]
        if kind == "extra_forbidden":
            self.unknown(key + path, _keys_at(model, path[:-1]))
        elif kind == "literal_error":
            wanted = str(detail["ctx"]["expected"])
            meant = did_you_mean(str(detail["input"]), re.findall(r"'([^']*)'", wanted))
            self.complain(key + path, f"must be {wanted}, not {detail['input']!r}{meant}")
        elif kind == "value_error":
            self.complain(key + path, str(detail["ctx"]["error"]))
        else:
            text = detail["msg"].replace("Input should", "must")
            self.complain(key + path, _SENTENCES.get(kind, text))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean …?"`` when a known word is near ``word``, otherwise nothing."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def _keys_at(model: type[BaseModel], path: KeyPath) -> list[str]:
    """Return the keys that the table ``path`` inside ``model`` may have."""
    for part in path:
        inner = next(f.annotation for n, f in model.model_fields.items() if part in (n, f.alias))
        inner = next(iter(get_args(inner)), inner)  # of a list of tables: what they are
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _nearest(places: Mapping[KeyPath, str], key: KeyPath) -> str:
    lengths = range(len(key), 0, -1)
    return next((places[key[:n]] for n in lengths if key[:n] in places), "")


def _read_text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_SIZE_MAX + 1)
        if len(data) > FILE_SIZE_MAX:
            raise ConfigError(f"{path} is larger than {FILE_SIZE_MAX} bytes", effect=EFFECT)
        return data.decode()
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no configuration file {path}", effect=EFFECT,
            hint="Write one from the examples, or name another with --config.",
        ) from error  # fmt: skip
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}", effect=EFFECT) from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", effect=EFFECT) from error


def _syntax_error(path: str, text: str, error: tomllib.TOMLDecodeError) -> ConfigError:
    found = re.search(r"line (\d+), column (\d+)", str(error))
    line = int(found[1]) if found else text.count("\n") + 1
    reason = re.sub(r"\s*\(at .*\)$", "", str(error))
    content = (text.splitlines() or [""])[min(line, text.count("\n") + 1) - 1 :][:1]
    hint = HINT
    if content and re.match(r"\s*\[[^\]\"']*/", content[0]):
        hint = 'Quote a name with a slash: [volume."vg0/home"]'
    return ConfigError(f"{path}:{line}: this is not TOML: {reason}", effect=EFFECT, hint=hint)
