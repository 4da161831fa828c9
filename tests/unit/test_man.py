"""The manual: it names what there is and nothing else, and it comes out as it was meant."""

import argparse
import importlib.util
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitopsd import __version__, script
from gitopsd.cli import exits
from gitopsd.cli.parser import make_parser
from gitopsd.config import load, schema

ROOT = Path(__file__).resolve().parents[2]
MAN = ROOT / "packaging" / "man.py"
PAGES = ("gitopsd.8", "gitopsd.yaml.5", "gitops_sync.sh.8")
EPOCH = "1700000000"  # 2023-11-14

Section = list[str]
SIGNS = {
    r"\-": "-",
    r"\(aq": "'",
    r"\(dq": '"',
    r"\(ga": "`",
    r"\(ha": "^",
    r"\(ti": "~",
    r"\e": "\\",
    r"\&": "",
    r"\ ": " ",
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write(tmp_path_factory.mktemp("man"))


def run_man(directory: Path, environment: Mapping[str, str], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", str(MAN), str(directory)]
    variables = {"PATH": os.defpath, "LC_ALL": "C", "SOURCE_DATE_EPOCH": EPOCH, **environment}
    return subprocess.run(argv, cwd=cwd, env=variables, capture_output=True, text=True, check=False)


def write(directory: Path, **environment: str) -> dict[str, str]:
    done = run_man(directory, environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return {path.name: path.read_text(encoding="utf-8") for path in directory.iterdir()}


# What stands in a page


def sections(page: str) -> dict[str, Section]:
    found: dict[str, Section] = {}
    lines = found.setdefault("", [])
    for line in re.sub(r"(?<!\\)\\\n", "", page).splitlines():
        if line.startswith(".SH "):
            lines = found.setdefault(text(line), [])
        else:
            lines.append(line)
    return found


def text(line: str) -> str:
    """A line of roff as a reader sees it."""
    if macro := re.match(r"\.(SH|SS|B|I|BR|BI|RB|RI|IR|IB) ", line):
        words = [quoted or word for quoted, word in re.findall(r'"([^"]*)"|(\S+)', line[macro.end() :])]
        line = (" " if len(macro[1]) == 1 or macro[1].startswith("S") else "").join(words)
    line = re.sub(r"\\f[BIRP]", "", line)
    return re.sub(r"\\(\(..|.)", lambda sign: SIGNS[sign[0]], line)


def entries(section: Section, depth: int = 0) -> dict[str, str]:
    """What each tag of a list says, of the list at this depth."""
    found: dict[str, list[str]] = {}
    level, said = 0, None
    lines = iter(section)
    for line in lines:
        level += line.startswith(".RS") - line.startswith(".RE")
        if line == ".TP" and level <= depth:
            said = found.setdefault(text(next(lines)), []) if level == depth else None
        elif line.startswith((".PP", ".SS")):
            said = None
        elif said is not None and level == depth and not line.startswith((".RS", ".RE")):
            said.append(text(line))
    return {tag: " ".join(said) for tag, said in found.items()}


def blocks(section: Section) -> Iterator[str]:
    """The examples."""
    lines = iter(section)
    for line in lines:
        if line == ".EX":
            yield "\n".join(map(text, iter(lines.__next__, ".EE")))


def options_in(words: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", words))


# What there is


def commands() -> dict[str, argparse.ArgumentParser]:
    found = [action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices)


def actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [each for each in parser._actions if not isinstance(each, argparse._SubParsersAction | argparse._HelpAction)]


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in actions(parser) for option in action.option_strings}


def names_of_values(parser: argparse.ArgumentParser) -> set[str]:
    return {str(action.metavar or action.dest.upper()) for action in actions(parser) if action.nargs != 0}


# The page of the command


def described_commands(page: str) -> dict[str, Section]:
    """The lines of each command of the page, by its heading."""
    found: dict[str, Section] = {}
    level, lines = 0, iter(sections(page)["COMMANDS"])
    said: Section = []
    for line in lines:
        level += line.startswith(".RS") - line.startswith(".RE")
        if line == ".TP" and level == 0:
            said = found.setdefault(text(next(lines)), [])
        else:
            said.append(line)
    return found


def test_every_command_is_in_the_manual_and_no_other(pages: Mapping[str, str]) -> None:
    described = [heading.split()[0] for heading in described_commands(pages["gitopsd.8"])]

    assert sorted(described) == sorted(commands())


def test_every_option_and_argument_of_a_command_is_in_the_manual_and_no_other(pages: Mapping[str, str]) -> None:
    described = described_commands(pages["gitopsd.8"])
    known = commands()

    for heading, lines in described.items():
        name, _, rest = heading.partition(" ")
        tags = entries(lines, depth=1)
        assert options_in(rest) == options(known[name]), name
        assert options_in(" ".join(tags)) == options(known[name]), name
        assert set(re.findall(r"[A-Z][A-Z|]*", rest)) == names_of_values(known[name]), name
        for action in actions(known[name]):
            if action.option_strings:
                value = f" {action.metavar or action.dest.upper()}" if action.nargs != 0 else ""
                assert tags[", ".join(action.option_strings) + value], name


def test_the_options_before_a_command_are_in_the_manual_and_no_others(pages: Mapping[str, str]) -> None:
    described = entries(sections(pages["gitopsd.8"])["OPTIONS"])

    assert options_in(" ".join(described)) == options(make_parser()) | {"-h", "--help"}


def test_every_exit_code_is_in_the_manual_and_no_other(pages: Mapping[str, str]) -> None:
    known = {str(value) for name, value in vars(exits).items() if name.startswith("EXIT_")}

    assert set(entries(sections(pages["gitopsd.8"])["EXIT STATUS"])) == known


def test_every_unit_is_in_the_manual_and_no_other(pages: Mapping[str, str]) -> None:
    kinds = ("service", "socket", "timer")
    known = {path.name for kind in kinds for path in (ROOT / "units").glob(f"*.{kind}")}
    tags = " ".join(entries(sections(pages["gitopsd.8"])["FILES"]))

    assert set(re.findall(rf"[\w@-]+\.(?:{'|'.join(kinds)})\b", tags)) == known


def test_what_an_example_runs_is_taken_by_the_parser(pages: Mapping[str, str]) -> None:
    lines = [line for block in blocks(sections(pages["gitopsd.8"])["EXAMPLES"]) for line in block.splitlines()]
    calls = [shlex.split(line.partition("|")[0], comments=True) for line in lines if line.startswith("gitopsd ")]

    for call in calls:
        assert make_parser().parse_args(call[1:]).command, call
    assert len(calls) > 5


@pytest.mark.parametrize("name", ["gitopsd.8", "gitops_sync.sh.8"])
def test_an_example_can_be_pasted_into_a_shell(pages: Mapping[str, str], name: str) -> None:
    examples = list(blocks(sections(pages[name])["EXAMPLES"]))

    for example in examples:
        subprocess.run(["bash", "-n"], input=example, text=True, check=True)
    assert examples


# The page of the configuration


def settings(part: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Every key of the schema with its path, what the schema says of it, and whether it has to be there."""
    for key, found in part["properties"].items():
        setting = resolved(found)
        path = f"{where}{key}"
        yield path, setting, key in part.get("required", ())
        if "properties" in setting:
            yield from settings(setting, f"{path}.")
        elif isinstance(below := setting.get("additionalProperties"), dict):
            yield from settings(resolved(below), f"{path}.NAME.")


def resolved(part: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = part.get("$ref")
    return {**schema()["$defs"][reference.removeprefix("#/$defs/")], **part} if reference else part


def test_every_setting_is_in_the_manual_and_no_other(pages: Mapping[str, str]) -> None:
    described = entries(sections(pages["gitopsd.yaml.5"])["SETTINGS"])

    assert sorted(described) == sorted(path for path, _, _ in settings(schema()))


def test_a_setting_has_its_meaning_its_values_and_its_default_in_the_manual(pages: Mapping[str, str]) -> None:
    described = entries(sections(pages["gitopsd.yaml.5"])["SETTINGS"])

    for path, setting, is_needed in settings(schema()):
        said = described[path]
        assert setting["description"].partition(";")[0][1:] in said, path
        if "default" in setting:
            shown = said.rpartition("Default: ")[2].removesuffix(".")
            assert yaml.safe_load(shown) == setting["default"], path
        elif "properties" in setting or "additionalProperties" in setting:
            assert re.search(r"See \S+ below\.", said)
        else:
            assert ("Needed." if is_needed else "Default: ") in said
        for value in filter(None, setting.get("enum", ())):
            assert re.search(rf"Values: .*\b{value}\b", said), path


def test_every_example_of_the_configuration_is_one_that_loads(pages: Mapping[str, str], tmp_path: Path) -> None:
    found = sections(pages["gitopsd.yaml.5"])
    examples = [*blocks(found["SETTINGS"]), *blocks(found["EXAMPLES"])]
    path = tmp_path / "gitopsd.yaml"

    for example in examples:
        path.write_text(example, encoding="utf-8")
        load(path)
    assert len(examples) > 5


def test_a_setting_stands_in_an_example_with_the_value_of_the_schema(pages: Mapping[str, str]) -> None:
    shown: dict[str, Any] = {}
    for example in blocks(sections(pages["gitopsd.yaml.5"])["SETTINGS"]):
        add(yaml.safe_load(example), to=shown)

    for path, setting, _ in settings(schema()):
        if "properties" not in setting and "additionalProperties" not in setting:
            found: Any = shown
            for key in path.split("."):
                found = next(iter(found.values())) if key == "NAME" else found[key]
            assert found == setting["examples"][0], path


def add(example: Mapping[str, Any], *, to: dict[str, Any]) -> None:
    for key, value in example.items():
        if isinstance(value, dict):
            add(value, to=to.setdefault(key, {}))
        else:
            to[key] = value


# The page of the engine


@pytest.fixture(scope="module")
def engine() -> str:
    return (ROOT / "scripts" / "gitops_sync.sh").read_text(encoding="utf-8")


def test_every_variable_of_the_engine_is_in_the_manual_and_no_other(pages: Mapping[str, str], engine: str) -> None:
    described = " ".join(entries(sections(pages["gitops_sync.sh.8"])["ENVIRONMENT"]))

    # What the deploy command is told of the event passes the engine by.
    event = inspect.getsource(script._event_environment)
    assert set(re.findall(r"GITOPSD_\w+", described)) == set(re.findall(r"GITOPSD_\w+", engine + event))


def test_every_exit_code_of_the_engine_is_in_the_manual_and_no_other(pages: Mapping[str, str], engine: str) -> None:
    (codes,) = re.findall(r"^readonly (\w+=[0-9]+(?: \w+=[0-9]+)*)$", engine, re.MULTILINE)

    described = entries(sections(pages["gitops_sync.sh.8"])["EXIT STATUS"])
    assert set(described) == {"0", *re.findall("=([0-9]+)", codes)}


def test_every_phase_of_the_engine_is_in_the_manual_and_no_other(pages: Mapping[str, str], engine: str) -> None:
    described = entries(sections(pages["gitops_sync.sh.8"])["PHASES"])

    begun = re.findall(r"^ *(?:if .*; then )?phase (\w+)(?:; fi)?$", engine, re.MULTILINE)
    assert set(described) == set(begun)


def test_every_line_that_the_engine_writes_is_in_the_manual_and_no_other(pages: Mapping[str, str], engine: str) -> None:
    described = [tag.partition("=")[0] for tag in entries(sections(pages["gitops_sync.sh.8"])["OUTPUT"])]

    assert set(described) == set(re.findall(r"^[^#\n]*\b(?:tell|emit) ([a-z_]+)\b", engine, re.MULTILINE))


def test_what_a_refusal_begins_with_is_what_the_engine_says(pages: Mapping[str, str], engine: str) -> None:
    tags = entries(sections(pages["gitops_sync.sh.8"])["REFUSALS"])
    reasons = [reason.removeprefix("PATH ") for tag in tags for reason in tag.split(", ")]

    assert [reason for reason in reasons if reason not in engine] == []
    assert len(reasons) > 5


# How it comes out


def rendered(page: str) -> str:
    """The page on a terminal of 80 columns. Fails when `man` has a warning."""
    if not shutil.which("man") or not shutil.which("groff"):
        pytest.skip("no man (man-db) or no groff here to look at a page with")
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
    argv = ["man", "--warnings", "--local-file", "-"]
    done = subprocess.run(argv, env=environment, input=page, capture_output=True, text=True, check=False)
    if "minimized" in done.stdout:
        pytest.skip("man is but a stub here: this system is a minimized one")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_warning_and_fits_a_terminal(pages: Mapping[str, str], name: str) -> None:
    lines = rendered(pages[name]).splitlines()

    assert [line for line in lines if len(line) > 80] == []
    assert lines[-1].startswith(f"gitopsd {__version__} ")
    assert "2023-11-14" in lines[-1]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(
    ("tool", "argv"),
    [
        ("groff", ["groff", "-man", "-Tutf8", "-ww", "-wall", "-rF0", "-z", "-Kutf8", "-"]),
        ("mandoc", ["mandoc", "-T", "lint", "-W", "warning"]),
    ],
)
def test_a_formatter_has_nothing_to_say_about_a_page(
    pages: Mapping[str, str], name: str, tool: str, argv: Sequence[str]
) -> None:
    if not shutil.which(tool):
        pytest.skip(f"no {tool} here to look at a page with")
    done = subprocess.run(argv, input=pages[name], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", PAGES)
def test_no_word_of_a_page_is_broken_at_the_end_of_a_line(pages: Mapping[str, str], name: str) -> None:
    assert "\N{HYPHEN}" not in rendered(pages[name])


@pytest.mark.parametrize("name", PAGES)
def test_every_hyphen_can_be_copied(pages: Mapping[str, str], name: str) -> None:
    lines = [line for line in pages[name].splitlines() if not line.startswith((r".\"", ".TH "))]

    assert [line for line in lines if re.search(r"(?<!\\)-", line)] == []
    assert [line for line in lines if not line.isascii()] == []


def test_no_place_of_a_page_was_left_open(pages: Mapping[str, str]) -> None:
    assert sorted(pages) == sorted(PAGES)
    assert [name for name, page in pages.items() if re.search("@[A-Z]+@", page)] == []


# The program that writes it


def test_the_same_sources_make_the_same_pages(tmp_path: Path) -> None:
    first = write(tmp_path / "1", TZ="Pacific/Kiritimati", PYTHONHASHSEED="1")
    second = write(tmp_path / "2", TZ="Pacific/Niue", PYTHONHASHSEED="2", LC_ALL="C.UTF-8")

    assert first == second


def test_the_date_is_that_of_the_newest_version_where_nobody_gives_one(tmp_path: Path) -> None:
    dates = re.findall(r"^## \[.*([0-9]{4}-[0-9]{2}-[0-9]{2})$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    newest = dates[0] if dates else ""

    for page in write(tmp_path, SOURCE_DATE_EPOCH="").values():
        assert re.search(rf'^\.TH \S+ [58] "{newest}" ', page, re.MULTILINE)


def test_it_runs_from_any_directory(tmp_path: Path) -> None:
    done = run_man(Path("pages"), {}, cwd=tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == sorted(PAGES)


@pytest.mark.parametrize("epoch", ["yesterday", "-1", "1e9", "99999999999999"])
def test_a_date_that_is_none_is_refused_in_one_line(tmp_path: Path, epoch: str) -> None:
    done = run_man(tmp_path / "pages", {"SOURCE_DATE_EPOCH": epoch})

    assert done.returncode == 1
    assert done.stderr == "man.py: SOURCE_DATE_EPOCH must be a number of seconds\n"
    assert not (tmp_path / "pages").exists()


def test_where_it_cannot_write_it_says_so_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_man(tmp_path / "file", {})

    assert done.returncode == 1
    assert done.stderr.startswith("man.py: ")
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def man() -> Any:
    spec = importlib.util.spec_from_file_location("man", MAN)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    del sys.modules[spec.name]
    return module


PUNCTUATION = "".join(map(chr, range(0x21, 0x7F)))


@pytest.mark.parametrize(
    "line",
    [".TH is no command", "'TH neither", r"C:\new \fBbold\fR", "--a-b 'c' \"d\" `e` ^f ~g", PUNCTUATION, "a … b → c"],
)
def test_text_of_the_schema_comes_out_as_it_is(man: Any, line: str) -> None:
    page = f'.TH X 5 "" "" ""\n.SH NAME\nx \\- y\n.SH TEXT\n.nf\n{man.escape(line)}\n.fi\n'

    shown = [shown.strip() for shown in rendered(page).splitlines()]
    assert line in shown


def test_a_setting_of_any_kind_gets_its_lines(man: Any) -> None:
    leaf = {"description": "what; default the host's", "examples": ["no"]}
    by_name = {
        "description": "by name",
        "additionalProperties": {"properties": {"on": leaf}},
        "examples": [{"one": {}}],
    }
    written = man.settings({"properties": {"a-b": {"description": "some", "properties": {"c": by_name}}}})

    said = entries(written.splitlines())
    assert said["a-b"] == "Some. See a-b below."
    assert said["a-b.c"] == "By name. See a-b.c.NAME below."
    assert said["a-b.c.NAME.on"] == "What. Default: the host's."
    *_, last = blocks(written.splitlines())
    assert yaml.safe_load(last) == {"a-b": {"c": {"one": {"on": "no"}}}}
