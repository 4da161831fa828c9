#!/usr/bin/env python3
"""Write the manual pages to a directory: gitopsd.8, gitopsd.yaml.5 and gitops_sync.sh.8. Needs nothing but Python.

They are those of docs/man with the version and the date in them, and with the settings of the configuration from its
schema. The date is that of $SOURCE_DATE_EPOCH, else of the newest version in CHANGELOG.md, else there is none: the same
sources make the same pages on any day.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_PAGES = ("gitopsd.8", "gitopsd.yaml.5.in", "gitops_sync.sh.8")
_NAME = "NAME"
_OTHERWISE = "; default "
"""Ends what a description says of a setting whose default is no fixed value."""

_WORD = re.compile(r"[A-Za-z./][\w./@-]*(:[\w./@-]+)*|[0-9]+[A-Za-z]+", re.ASCII)
_NO_WORDS = ("yes", "no", "on", "off", "true", "false", "null")

# groff makes typographer's signs of these, and a copied one would no longer be what it was.
_SIGNS = str.maketrans({"\\": r"\e", "-": r"\-", "'": r"\(aq", '"': r"\(dq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", metavar="OUTDIR", type=Path, help="where to write them; it is made if need be")
    directory = parser.parse_args().directory
    try:
        marks = {"VERSION": escape(_version()), "DATE": _date(), "SETTINGS": settings(_schema()).rstrip("\n")}
        directory.mkdir(parents=True, exist_ok=True)
        for name in _PAGES:
            text = (_ROOT / "docs" / "man" / name).read_text(encoding="utf-8")
            page = re.sub("@([A-Z]+)@", lambda mark: marks[mark[1]], text)
            (directory / name.removesuffix(".in")).write_text(page, encoding="utf-8")
    except (OSError, ValueError) as error:
        sys.exit(f"man.py: {error}")


def _version() -> str:
    """By its text: what gitopsd needs may not be installed where it is packaged."""
    path = _ROOT / "gitopsd" / "__init__.py"
    found = re.search(r'^__version__ = "(.+)"$', path.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise ValueError(f"{path}: there is no __version__ in it")
    return found[1]


def _date() -> str:
    if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
        if not re.fullmatch("[0-9]{1,11}", epoch):
            raise ValueError("SOURCE_DATE_EPOCH must be a number of seconds")
        return datetime.fromtimestamp(int(epoch), UTC).date().isoformat()
    text = (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[.+\].* ([0-9]{4}-[0-9]{2}-[0-9]{2})$", text, re.MULTILINE)
    return newest[1] if newest else ""


def _schema() -> dict[str, Any]:
    path = _ROOT / "gitopsd" / "config" / "gitopsd.schema.json"
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


# The settings


@dataclass(frozen=True)
class _Mapping:
    """One mapping of the configuration. `where`: the keys that lead to it, with a name that serves as an example.

    Beside each key is what has to stand beside it in an example, and `needed` is what a part of this one has beside it.
    """

    title: str
    where: tuple[tuple[str, Mapping[str, Any]], ...]
    schema: Mapping[str, Any]
    needed: Mapping[str, Any] = field(default_factory=dict)

    def path_of(self, key: str) -> str:
        return f"{self.title}.{key}" if self.title else key


def settings(schema: Mapping[str, Any]) -> str:
    """The settings of `schema` in roff: a section for each mapping, with every key of it and an example."""
    lines: list[str] = []
    for mapping in _mappings(schema, _Mapping("", (), schema)):
        lines.append(f".SS {mapping.title or 'Top level'}")
        example: dict[str, Any] = {}
        for key, found in mapping.schema["properties"].items():
            setting = _resolved(schema, found)
            lines += [".TP", f".B {escape(mapping.path_of(key))}", escape(_meaning(setting))]
            if below := _below(schema, setting):
                lines.append(escape(f"See {mapping.path_of(key)}{'' if below is setting else f'.{_NAME}'} below."))
            else:
                lines += map(escape, _values(setting, is_needed=key in mapping.schema.get("required", ())))
                example[key] = setting["examples"][0]
        for key, beside in reversed(mapping.where):
            example = {**beside, key: example}
        lines += [".PP", "In its place:", ".PP", ".RS 4", ".EX", *map(escape, _yaml(example)), ".EE", ".RE"]
    return "".join(f"{line}\n" for line in lines)


def _mappings(schema: Mapping[str, Any], mapping: _Mapping) -> Iterator[_Mapping]:
    """`mapping` and all that are below it."""
    yield mapping
    for key, found in mapping.schema["properties"].items():
        setting = _resolved(schema, found)
        below = _below(schema, setting)
        title, where, needed = mapping.path_of(key), (*mapping.where, (key, mapping.needed)), {}
        if below and below is not setting:
            name, needed = next(iter(setting["examples"][0].items()))
            title, where = f"{title}.{_NAME}", (*where, (name, {}))
        if below:
            yield from _mappings(schema, _Mapping(title, where, below, needed))


def _below(schema: Mapping[str, Any], setting: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The mapping that has the settings below this one: itself, or that of each name in it. None if there are none."""
    if "properties" in setting:
        return setting
    by_name = setting.get("additionalProperties")
    if not isinstance(by_name, dict):
        return None
    found = _resolved(schema, by_name)
    return found if "properties" in found else None


def _resolved(schema: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    """`part` with what it refers to; what stands in it itself comes first."""
    name = part.get("$ref", "").rpartition("/")[2]
    return {**schema["$defs"][name], **part} if name else part


def _meaning(setting: Mapping[str, Any]) -> str:
    text = setting["description"].partition(_OTHERWISE)[0]
    return f"{text[0].upper()}{text[1:]}."


def _values(setting: Mapping[str, Any], *, is_needed: bool) -> Iterator[str]:
    """What it can be, and what it is where it is not set."""
    if "enum" in setting:  # false is there for an off without quotes, of which YAML makes that
        yield f"Values: {', '.join(map(_plain, filter(None, setting['enum'])))}."
    if is_needed:
        yield "Needed."
    elif "default" in setting:
        yield f"Default: {_plain(setting['default'])}."
    else:
        yield f"Default: {setting['description'].partition(_OTHERWISE)[2] or 'none'}."


def _yaml(value: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """`value` as the lines of a YAML file: mappings over several lines, lists on one."""
    for key, below in value.items():
        if isinstance(below, dict):
            yield f"{indent}{_plain(key)}:"
            yield from _yaml(below, f"{indent}  ")
        else:
            yield f"{indent}{_plain(key)}: {_plain(below)}"


def _plain(value: Any) -> str:
    """A scalar or a list in YAML, without quotes where it is the same without."""
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, str) and _WORD.fullmatch(value) and value.lower() not in _NO_WORDS:
        return value
    return json.dumps(value)


def escape(text: str) -> str:
    """`text` in roff, so that it comes out as it is, on any device."""
    escaped = "".join(sign if sign.isascii() else rf"\[u{ord(sign):04X}]" for sign in text.translate(_SIGNS))
    # Of a dot at its beginning roff makes a command. (The other sign that is one is a \(aq by now.)
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


if __name__ == "__main__":
    main()
