"""YAML + JSON Schema → frozen dataclasses; every error at once, with its path."""

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from gitopsd.errors import ConfigError
from gitopsd.model import Config, Keep, Receiver, Repo, Retry

DEFAULT_PATH = Path("/etc/gitopsd/gitopsd.yaml")
DEFAULT_RECEIVER = Receiver(name="default", provider="github", secrets=("github-webhook-secret",))

_PACKAGE_DIR = Path(__file__).parent
_MERGED_KEYS = ("receivers", "repos")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}

KeyPath = tuple[str | int, ...]


def schema() -> dict[str, Any]:
    """The JSON Schema of the configuration: the one truth for validation, the manual and editors."""
    text = (_PACKAGE_DIR / "gitopsd.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def load(path: Path) -> Config:
    """The configuration in `path` and in every `conf.d/*.yaml` beside it.

    Raises ConfigError with every problem found in any of the files, each as `file:line: key: what is wrong`.
    """
    files = [_read(file) for file in (path, *sorted((path.parent / "conf.d").glob("*.yaml")))]
    problems = [problem for file in files for problem in (*file.problems, *_schema_problems(file))]
    merged, merge_problems = _merge(files)
    problems += merge_problems
    problems += _sense_problems(files)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return _build(path, merged)


@dataclass(frozen=True)
class _File:
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


def _read(path: Path) -> _File:
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return _File(path)
        lines: dict[KeyPath, int] = {}
        problems = [f"{path}:{line}: {text}" for line, text in _key_problems(node, (), lines)]
        data = loader.construct_document(node)
    except FileNotFoundError:
        hint = "write one, or name another with --config or GITOPSD_CONFIG"
        return _File(path, problems=(f"{path}: there is no such file; {hint}",))
    except OSError as error:
        return _File(path, problems=(f"{path}: cannot be read: {error.strerror}",))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        return _File(path, problems=(f"{path}:{line}: not YAML: {error.problem or error.context}",))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        return _File(path, problems=(f"{path}: not YAML: {' '.join(str(error).split())}",))
    if not isinstance(data, dict):
        return _File(path, problems=(*problems, f"{path}:1: must be a mapping such as 'repos: …'"))
    return _File(path, data, lines, tuple(problems))


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
            yield line, "a key must be a word"
            continue
        key = (*where, key_node.value)
        if key_node.value in seen:
            yield line, f"{'.'.join(map(str, key))}: stands here twice; remove one"
        seen.add(key_node.value)
        if key_node.tag != "tag:yaml.org,2002:merge":
            key_node.tag = "tag:yaml.org,2002:str"
        lines[key] = line
        yield from _key_problems(value_node, key, lines)


def _schema_problems(file: _File) -> Iterator[str]:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - slow to import, and not needed to say `--help`

    for error in Draft202012Validator(schema()).iter_errors(file.data):
        where = tuple(error.absolute_path)
        if error.validator == "additionalProperties":
            yield from _unknown_keys(file, where, error.instance, error.schema["properties"])
        elif error.validator == "required":
            for key in (key for key in error.validator_value if key not in error.instance):
                yield file.problem(where, f"'{key}' is missing: {error.schema['properties'][key]['description']}")
        else:
            wanted = error.schema.get("description") or _parent_description(where)
            yield file.problem(where, f"{json.dumps(error.instance, default=str)} is not right; wanted: {wanted}")


def _unknown_keys(file: _File, where: KeyPath, found: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[str]:
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


def _merge(files: list[_File]) -> tuple[dict[str, Any], list[str]]:
    """One mapping of all files, and a problem for everything that two of them set."""
    merged: dict[str, Any] = {"roots": [], **{key: {} for key in _MERGED_KEYS}}
    owners: dict[KeyPath, Path] = {}
    problems: list[str] = []

    def claim(file: _File, *where: str) -> None:
        if where in owners:
            problems.append(file.problem(where, f"is set in {owners[where]} too; keep one"))
        owners[where] = file.path

    for file in files:
        for key, value in file.data.items():
            if key in _MERGED_KEYS:
                for name, entry in file.section(key).items():
                    claim(file, key, name)
                    merged[key][name] = entry
            elif key == "roots":
                merged[key] += value if isinstance(value, list) else []
            else:
                claim(file, key)
                merged[key] = value
    return merged, problems


def _sense_problems(files: list[_File]) -> Iterator[str]:
    """What a schema cannot see: two repos in one place, passwords in URLs, roots that are not there."""
    paths: dict[str, str] = {}
    for file in files:
        for name, repo in file.section("repos").items():
            if not isinstance(repo, dict):
                continue
            path, url = repo.get("path"), repo.get("url")
            if isinstance(path, str) and paths.setdefault(os.path.normpath(path), name) != name:
                other = paths[os.path.normpath(path)]
                yield file.problem(("repos", name, "path"), f"{path} is the path of repo '{other}' too")
            if isinstance(url, str) and _has_password(url):
                hint = "git would show it in the process list; use an ssh key or a git credential helper"
                yield file.problem(("repos", name, "url"), f"holds a password; {hint}")
        roots = file.data.get("roots")
        for index, root in enumerate(roots if isinstance(roots, list) else []):
            if isinstance(root, str) and root.startswith("/") and not Path(root).is_dir():
                yield file.problem(("roots", index), f"{root} is not a directory; make it, or take it out")


def _has_password(url: str) -> bool:
    try:
        return "://" in url and bool(urlsplit(url).password)
    except ValueError:
        return False


def dump(config: Config) -> str:
    """YAML from which `load` makes the same configuration again, but for `source`."""
    data = {
        "state_dir": str(config.state_dir),
        "runtime_dir": str(config.runtime_dir),
        "engine": str(config.engine),
        "runner": config.runner,
        "max_parallel": config.max_parallel,
        "max_body": config.max_body,
        "stop_timeout": _duration(config.stop_timeout_sec),
        "receivers": {
            name: {"provider": receiver.provider, "secrets": list(receiver.secrets)}
            for name, receiver in config.receivers.items()
        },
        "roots": [str(root) for root in config.roots],
        "repos": {name: _repo_data(repo) for name, repo in config.repos.items()},
        "retry": {
            "tries": config.retry.tries,
            "delay": _duration(config.retry.delay_sec),
            "max_delay": _duration(config.retry.max_delay_sec),
        },
        "keep": {
            "deliveries": config.keep.deliveries,
            "jobs": config.keep.jobs,
            "logs": config.keep.logs,
            "log_size": config.keep.log_bytes,
        },
    }
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _repo_data(repo: Repo) -> dict[str, Any]:
    data = {
        "url": repo.url,
        "ref": repo.ref,
        "path": str(repo.path),
        "strategy": repo.strategy,
        "timeout": _duration(repo.timeout_sec),
    }
    return data | ({"deploy": list(repo.deploy)} if repo.deploy else {})


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _build(source: Path, data: Mapping[str, Any]) -> Config:
    receivers = {name: _receiver(name, entry) for name, entry in data.get("receivers", {}).items()}
    retry, keep = data.get("retry", {}), data.get("keep", {})
    return Config(
        source=source,
        state_dir=Path(data.get("state_dir") or default_state_dir()),
        runtime_dir=Path(data.get("runtime_dir") or _first_directory("RUNTIME_DIRECTORY", "/run/gitopsd")),
        engine=Path(data.get("engine") or _PACKAGE_DIR / "gitops_sync.sh"),
        runner=data.get("runner", Config.runner),
        max_parallel=data.get("max_parallel", Config.max_parallel),
        max_body=_size(data.get("max_body", Config.max_body)),
        stop_timeout_sec=_seconds(data.get("stop_timeout"), Config.stop_timeout_sec),
        receivers=receivers or {DEFAULT_RECEIVER.name: DEFAULT_RECEIVER},
        roots=tuple(Path(root) for root in dict.fromkeys(data.get("roots", []))),
        repos={name: _repo(name, entry) for name, entry in data.get("repos", {}).items()},
        retry=Retry(
            tries=retry.get("tries", Retry.tries),
            delay_sec=_seconds(retry.get("delay"), Retry.delay_sec),
            max_delay_sec=_seconds(retry.get("max_delay"), Retry.max_delay_sec),
        ),
        keep=Keep(
            deliveries=keep.get("deliveries", Keep.deliveries),
            jobs=keep.get("jobs", Keep.jobs),
            logs=keep.get("logs", Keep.logs),
            log_bytes=_size(keep.get("log_size", Keep.log_bytes)),
        ),
    )


def _receiver(name: str, entry: Mapping[str, Any]) -> Receiver:
    return Receiver(name=name, provider=entry["provider"], secrets=tuple(entry["secrets"]))


def _repo(name: str, entry: Mapping[str, Any]) -> Repo:
    return Repo(
        name=name,
        url=entry["url"],
        ref=entry.get("ref", "main").removeprefix("refs/heads/"),
        path=Path(entry["path"]),
        strategy=entry.get("strategy", Repo.strategy),
        deploy=tuple(entry.get("deploy", ())),
        timeout_sec=_seconds(entry.get("timeout"), Repo.timeout_sec),
    )


def default_state_dir() -> str:
    """Where the store is if the configuration does not say, or cannot be read."""
    return _first_directory("STATE_DIRECTORY", "/var/lib/gitopsd")


def _first_directory(variable: str, otherwise: str) -> str:
    return os.environ.get(variable, "").partition(":")[0] or otherwise


def _seconds(text: str | None, otherwise: float) -> float:
    if text is None:
        return otherwise
    number, unit = re.fullmatch(r"([0-9]+)(\w+)", text).groups()  # type: ignore[union-attr] # the schema saw to that
    return int(number) * _SECONDS[unit]


def _size(text: str | int) -> int:
    digits = str(text).rstrip("KMG")
    return int(digits) * _BYTES[str(text)[len(digits) :]]
