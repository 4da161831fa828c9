"""One file of the configuration: its data, the line of every key, and what is wrong with its values."""

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

KeyPath = tuple[str | int, ...]
"""Where a value is: `("repos", "blog", "deploy", 0)`."""


@functools.cache
def schema() -> dict[str, Any]:
    """The JSON Schema of the configuration: the one truth for validation, the manual and editors."""
    text = (Path(__file__).parent / "gitopsd.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


class ConfigFile(NamedTuple):
    """One YAML file: its data, the line of every key in it, and what was wrong with its form."""

    path: Path
    data: dict[str, Any]
    lines: dict[KeyPath, int]
    problems: tuple[str, ...] = ()

    def problem(self, where: KeyPath, text: str) -> str:
        """`text` with the file, the line and the key that it is about."""
        line = next((self.lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in self.lines), 1)
        key = f"{'.'.join(map(str, where))}: " if where else ""
        return f"{self.path}:{line}: {key}{text}"

    def section(self, key: str) -> dict[str, Any]:
        """The mapping under `key`; an empty one where there is none."""
        found = self.data.get(key)
        return found if isinstance(found, dict) else {}


def schema_problems(file: ConfigFile) -> Iterator[str]:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - slow to import, and not needed to say `--help`

    try:
        errors = list(Draft202012Validator(schema()).iter_errors(file.data))
    except ValueError:  # its messages hold the values, and Python does not write a number of thousands of digits
        yield file.problem((), "holds a number of too many digits")
        return
    for error in errors:
        where = tuple(error.absolute_path)
        if "propertyNames" in error.absolute_schema_path:
            where = (*where, error.instance)
        if error.validator == "additionalProperties":
            yield from _unknown_keys(file, where, error.instance, error.schema["properties"])
        elif error.validator == "required":
            for key in (key for key in error.validator_value if key not in error.instance):
                yield file.problem(where, f"'{key}' is missing: {_parent_description((*where, key))}")
        else:
            wanted = error.schema.get("description") or _parent_description(where)
            if error.validator == "enum":
                wanted = f"{wanted} (one of {', '.join(each for each in error.validator_value if each)})"
            # Never the value itself: it may be a secret that stands where its name belongs, and readyz says this too.
            yield file.problem(where, f"{_kind(error.instance)} is not right; wanted: {wanted}")


def _kind(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "true, false or nothing"
    return {str: "this text", int: "a number", float: "a number", list: "a list", dict: "a mapping"}.get(
        type(value), "this value"
    )


def _unknown_keys(
    file: ConfigFile, where: KeyPath, found: Mapping[str, Any], known: Mapping[str, Any]
) -> Iterator[str]:
    for key in (key for key in found if key not in known):
        import difflib  # noqa: PLC0415 - for who has made a mistake

        near = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
        yield file.problem((*where, key), f"unknown key; {hint}")


def _parent_description(where: KeyPath) -> str:
    """The description of the key at `where`: the one beside a `$ref`, which an error of the referred part lacks."""
    full = schema()
    part: dict[str, Any] = full
    for step in where:
        if "$ref" in part:
            part = full["$defs"][part["$ref"].rpartition("/")[2]]
        if isinstance(step, int):
            part = part.get("items", {})
        else:
            part = part.get("properties", {}).get(step) or part.get("additionalProperties") or {}
    return str(part.get("description", "something else"))
