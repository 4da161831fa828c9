"""What the documents tell a reader to do works, and what they list is what there is."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitopsd import config
from tests.site import Site

TOP = Path(__file__).parents[2]
EXAMPLE = TOP / "docs" / "gitopsd.example.yaml"


def test_the_example_configuration_passes_check(site: Site) -> None:
    places = {"STATE_DIRECTORY": str(site.root / "state")}
    site.config_path = EXAMPLE

    done = site.run("check", **places)

    assert done.returncode == 0, done.stdout
    assert "✗" not in done.stdout


def test_each_example_of_a_deploy_is_a_configuration_that_loads(tmp_path: Path) -> None:
    text = (TOP / "docs" / "deploys.md").read_text()
    path = tmp_path / "gitopsd.yaml"

    examples: list[str] = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for example in examples:
        path.write_text(example)
        assert config.load(path).repos["blog"].strategy == "release"
    assert len(examples) > 1


def test_the_example_shows_every_setting_with_its_default(tmp_path: Path) -> None:
    shown = yaml.safe_load(_uncommented())
    roots = tmp_path / "roots"
    roots.mkdir()
    path = tmp_path / "gitopsd.yaml"
    path.write_text(yaml.safe_dump(shown | {"roots": [str(roots)]}))
    schema = config.schema()

    config.load(path)  # nothing in it is an error

    assert set(shown) == set(schema["properties"])
    assert set(shown["repos"]["blog"]) == set(schema["$defs"]["repo"]["properties"])
    assert set(shown["receivers"]["ci"]) == set(schema["$defs"]["receiver"]["properties"])
    for key, part in schema["properties"].items():
        _assert_defaults_shown(shown[key], part)
    _assert_defaults_shown(shown["repos"]["blog"], schema["$defs"]["repo"])


def test_the_defaults_of_the_schema_are_those_in_force(tmp_path: Path) -> None:
    bare, explicit = tmp_path / "bare.yaml", tmp_path / "explicit.yaml"
    bare.write_text("repos: {blog: {url: /remote, path: /srv/blog}}\n")
    properties, repo = config.schema()["properties"], config.schema()["$defs"]["repo"]["properties"]
    values = {key: _defaults(part) for key, part in properties.items() if _defaults(part)}
    values["repos"] = {"blog": {"url": "/remote", "path": "/srv/blog"} | _defaults({"properties": repo})}
    del values["repos"]["blog"]["retry"]  # what it is set to is in force for this repo, and not for all
    explicit.write_text(yaml.safe_dump(values))

    left, right = config.load(bare), config.load(explicit)

    assert left == right._replace(source=left.source)


@pytest.mark.timeout(180)
def test_the_quickstart_deploys_a_push() -> None:
    done = subprocess.run(
        [str(TOP / "scripts" / "quickstart.sh")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    moments = re.findall(r"^  (push|accepted|fetched|deployed) +\+(\d+\.\d+) s$", done.stdout, re.MULTILINE)
    assert [name for name, _ in moments] == ["push", "accepted", "fetched", "deployed"]
    seconds = [float(number) for _, number in moments]
    assert seconds == sorted(seconds)
    assert re.search(r"^site  succeeded", done.stdout, re.MULTILINE)
    assert "deploy: ./deploy.sh" in done.stdout


def _uncommented() -> str:
    """The settings in the example: the lines of the form `# key:`, and the more deeply indented ones below them."""
    lines = [
        line.removeprefix("# ") for line in EXAMPLE.read_text().splitlines() if re.match(r"# ([a-z_]+:| +\S)", line)
    ]
    return "\n".join(lines)


def _defaults(part: dict[str, Any]) -> Any:
    if "default" in part:
        return part["default"]
    children = {key: _defaults(child) for key, child in _resolved(part).get("properties", {}).items()}
    found = {key: value for key, value in children.items() if value is not None}
    return found if found and set(part.get("required", ())) <= set(found) else None  # else it is not there by default


def _resolved(part: dict[str, Any]) -> dict[str, Any]:
    name = part.get("$ref", "").rpartition("/")[2]
    return {**config.schema()["$defs"][name], **part} if name else part


def _assert_defaults_shown(shown: Any, part: dict[str, Any]) -> None:
    if "default" in part:
        assert shown == part["default"], part["description"]
    for key, child in _resolved(part).get("properties", {}).items():
        _assert_defaults_shown(shown.get(key), child)
