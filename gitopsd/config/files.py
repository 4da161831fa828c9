"""One YAML file of the configuration: its data, the line of every key, and everything that is wrong with it."""

import difflib
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]
"""Where a value is: `("repos", "blog", "deploy", 0)`."""

_NO_KEY = "a key must be a word"


@functools.cache
def schema() -> dict[str, Any]:
    """The JSON Schema of the configuration: the one truth for validation, the manual and editors."""
    text = (Path(__file__).parent / "gitopsd.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@dataclass(frozen=True)
class ConfigFile:
    """One YAML file: its data, the line of every key in it, and what was wrong with its form."""

    path: Path
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
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


def read(path: Path, text: str | None = None) -> ConfigFile:
    """The file at `path`, whatever is wrong with it; as if it held `text`, if that is given."""
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8") if text is None else text)
        node = loader.get_single_node()
        if node is None:
            return ConfigFile(path)
        lines: dict[KeyPath, int] = {}
        problems = [f"{path}:{line}: {text}" for line, text in _key_problems(node, (), lines)]
        if any(problem.endswith(_NO_KEY) for problem in problems):
            return ConfigFile(path, problems=tuple(problems))
        data = loader.construct_document(node)
    except (OSError, yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError) as error:
        return ConfigFile(path, problems=(f"{path}{_why_unreadable(path, error)}",))
    if not isinstance(data, dict):
        return ConfigFile(path, problems=(*problems, f"{path}:1: must be a mapping such as 'repos: …'"))
    return ConfigFile(path, data, lines, tuple(problems))


def _why_unreadable(path: Path, error: Exception) -> str:
    """What follows the name of a file that cannot be read. Never a value out of it: that may be a secret."""
    if isinstance(error, FileNotFoundError):
        hint = "write one, or name another with --config or GITOPSD_CONFIG"
        return f": there is no such file; {'the link leads nowhere; remove it' if path.is_symlink() else hint}"
    if isinstance(error, OSError):
        return f": cannot be read: {error.strerror}"
    if isinstance(error, UnicodeDecodeError | yaml.reader.ReaderError):
        return ": not YAML: it is not UTF-8, or has control characters"
    if isinstance(error, RecursionError):
        return ": not YAML: it is nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError):
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        # Of a tag or an alias the text is a value that is not in quotes; that of a scanner or parser has none.
        if isinstance(error, yaml.constructor.ConstructorError | yaml.composer.ComposerError):
            return (
                f":{line}: not YAML: a value that begins with ! & or * must be in quotes, and an alias needs its anchor"
            )
        return f":{line}: not YAML: {error.problem or error.context}"
    # What PyYAML lets through of a tag whose value is none of its kind, such as `!!bool perhaps`.
    return f": not YAML: a value is not what its tag says ({type(error).__name__})"


def _key_problems(node: yaml.Node, where: KeyPath, lines: dict[KeyPath, int]) -> Iterator[tuple[int, str]]:
    """Notes the line of every key under `node`; yields keys that YAML would let pass: doubled ones and non-strings."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*where, index)] = item.start_mark.line + 1
            yield from _key_problems(item, (*where, index), lines)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            yield line, _NO_KEY
            continue
        key = (*where, key_node.value)
        if key_node.value in seen:
            yield line, f"{'.'.join(map(str, key))}: stands here twice; remove one"
        seen.add(key_node.value)
        if key_node.tag != "tag:yaml.org,2002:merge":
            key_node.tag = "tag:yaml.org,2002:str"
        lines[key] = line
        yield from _key_problems(value_node, key, lines)


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
