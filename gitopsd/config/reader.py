"""YAML → the data of a file, the line of every key in it, and what is wrong with its form."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from gitopsd.config.files import ConfigFile, KeyPath

_NO_KEY = "a key must be a word"


def read(path: Path, text: str | None = None) -> ConfigFile:
    """The file at `path`, whatever is wrong with it; as if it held `text`, if that is given."""
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8") if text is None else text)
        node = loader.get_single_node()
        if node is None:
            return ConfigFile(path, {}, {})
        lines: dict[KeyPath, int] = {}
        problems = [f"{path}:{line}: {text}" for line, text in _key_problems(node, (), lines)]
        if any(problem.endswith(_NO_KEY) for problem in problems):
            return ConfigFile(path, {}, {}, tuple(problems))
        data = loader.construct_document(node)
    except (OSError, yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError) as error:
        return ConfigFile(path, {}, {}, (f"{path}{_why_unreadable(path, error)}",))
    if not isinstance(data, dict):
        return ConfigFile(path, {}, {}, (*problems, f"{path}:1: must be a mapping such as 'repos: …'"))
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


def text_of(data: object) -> str:
    """YAML that is read as `data`."""
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
