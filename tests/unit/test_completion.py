"""Completion in the shells: what the command takes, and nothing that it does not."""

import argparse
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from gitopsd.cli.parser import make_parser
from gitopsd.config import schema

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "packaging" / "completion"
BASH, ZSH, FISH = PLACE / "gitopsd.bash", PLACE / "_gitopsd", PLACE / "gitopsd.fish"
START = ""
"""What stands for a command where there is none yet."""

TAKE_A_REPO = ("rescued", "remove", "hold", "resume", "rollback", "status", "why", "history", "logs", "run")
REPOS = {"blog", "my-shop.v2"}
STATUS = {
    "repos": [
        {"name": "blog", "reason": 'a "name": "stranger"', "unit": {"name": "gitopsd-sync@blog.service"}},
        {"name": "my-shop.v2", "reason": "", "unit": None},
    ],
    "problems": [],
}


# What there is


def commands() -> dict[str, argparse.ArgumentParser]:
    found = [action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices)


def options(parser: argparse.ArgumentParser) -> set[str]:
    """The long ones: each short one has a long twin."""
    return {option for action in parser._actions for option in action.option_strings if option.startswith("--")}


def known_options() -> dict[str, set[str]]:
    return {START: options(make_parser()), **{name: options(parser) for name, parser in commands().items()}}


def test_every_option_has_a_long_name() -> None:
    parsers = [make_parser(), *commands().values()]
    names = [action.option_strings for parser in parsers for action in parser._actions if action.option_strings]

    assert [each for each in names if not any(name.startswith("--") for name in each)] == []


# What the files name. They are read as text, so that this holds where a shell is not installed.


def named_in_bash() -> tuple[set[str], dict[str, set[str]]]:
    _, _, cases = BASH.read_text(encoding="utf-8").partition("_gitopsd_words() {")
    found: dict[str, set[str]] = {}
    for pattern, words in re.findall(r"^ +([a-z:*| -]*:-\*)\) echo (.+) ;;$", cases, re.MULTILINE):
        for each in pattern.split(" | "):
            found[each.removesuffix(":-*")] = set(words.split())
    (names,) = re.findall(r"^ +:\*\) echo (.+) ;;$", cases, re.MULTILINE)
    return set(names.split()), found


def named_in_zsh() -> tuple[set[str], dict[str, set[str]]]:
    text = ZSH.read_text(encoding="utf-8").replace("$help", "--help").replace("$json", "--json")
    before, _, cases = text.partition("case $line[1] in")
    (names,) = re.findall(r"commands=\(\n(.*?)\n    \)", before, re.DOTALL)
    start = before.partition("_arguments -C")[2].partition("case $state")[0].replace("[--config]", "")
    parts = re.split(r"^ {16}([a-z |]+)\)", cases, flags=re.MULTILINE)[1:]
    found = {START: long_words(start)}
    for pattern, body in zip(parts[::2], parts[1::2], strict=True):
        for name in pattern.split(" | "):
            found[name] = long_words(body)
    return set(re.findall(r"^ +'([a-z]+):", names, re.MULTILINE)), found


def long_words(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def named_in_fish() -> tuple[set[str], dict[str, set[str]]]:
    names: set[str] = set()
    found: dict[str, set[str]] = {}
    everywhere: set[str] = set()
    for line in FISH.read_text(encoding="utf-8").splitlines():
        words = shlex.split(line, comments=True) if line.startswith("complete ") else []
        given = dict(itertools.pairwise(words))
        places = given.get("-n", "").split()[1:] or [START]
        if "-l" in given and "-n" not in given:
            everywhere.add(f"--{given['-l']}")
        elif "-l" in given:
            for place in places:
                found.setdefault(place, set()).add(f"--{given['-l']}")
        elif given.get("-n") == "__gitopsd_in":
            names.add(given["-a"])
    return names, {name: found.get(name, set()) | everywhere for name in {START, *names, *found}}


FILES = pytest.mark.parametrize("read", [named_in_bash, named_in_zsh, named_in_fish])


@FILES
def test_every_command_is_completed_and_no_other(read: Callable[[], tuple[set[str], dict[str, set[str]]]]) -> None:
    names, _ = read()

    assert names == set(commands())


@FILES
def test_every_option_is_completed_after_its_command_and_no_other(
    read: Callable[[], tuple[set[str], dict[str, set[str]]]],
) -> None:
    _, found = read()

    assert found == known_options()


# The shells themselves


@dataclass
class Host:
    """A directory with a `gitopsd` in it that has two repos, and what it was asked."""

    place: Path

    def asked(self) -> list[str]:
        path = self.place / "asked"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def run(self, *argv: str) -> str:
        """What a command says. The shells of some distributions have more to say in a home."""
        environment = {
            "PATH": f"{self.place}:{os.environ['PATH']}",
            "HOME": str(self.place),
            "LC_ALL": "C.UTF-8",
            "TERM": "dumb",
        }
        done = subprocess.run(
            argv, cwd=self.place, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "status.json").write_text(json.dumps(STATUS, indent=2), encoding="utf-8")
    program = tmp_path / "gitopsd"
    program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\nexec cat {tmp_path}/status.json\n', encoding="utf-8")
    program.chmod(0o755)
    for name in ("some.yaml", "some-directory/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    return Host(tmp_path)


def in_bash(host: Host, *words: str) -> set[str]:
    script = """
        source "$1"; shift
        COMP_WORDS=(gitopsd "$@") COMP_CWORD=$#
        "$(complete -p gitopsd | sed -E 's/.* -F ([^ ]+) .*/\\1/')" gitopsd "${@: -1}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    return set(host.run("bash", "--norc", "-c", script, "-", str(BASH), *words).split())


def in_fish(host: Host, *words: str) -> set[str]:
    script = "source $argv[1]; complete -C $argv[2]"
    shown = host.run("fish", "--no-config", "-c", script, str(FISH), f"gitopsd {' '.join(words)}")
    return {line.partition("\t")[0] for line in shown.splitlines()}


# A zsh at a terminal of its own (zpty), in which Tab says what it would offer.
ZSH_AT_A_TERMINAL = """
    zmodload zsh/zpty
    zpty worker zsh -f -i
    zpty -w worker "source $1"
    zpty -r -m worker shown '*READY*'
    zpty -w -n worker "$2"$'\\t'
    zpty -r -m worker shown $'*\\x02*\\x03*'
    zpty -d worker
    shown=${shown##*$'\\x02'}
    print -r -- ${${shown%%$'\\x03'*}//$'\\r'/}
"""
ZSH_SETUP = """
    PS1= fpath=('%s' $fpath)
    autoload -Uz compinit && compinit -u -d ~/functions
    compadd() {
        local -a found
        if (( ${@[(I)-[ADO]*]} )); then builtin compadd "$@"; return; fi
        builtin compadd -A found "$@"
        offered+=($found)
        builtin compadd "$@"
    }
    offer() { offered=(); zle complete-word; print -rn -- $'\\x02'${(j: :)offered}$'\\x03' }
    zle -N offer
    bindkey '^I' offer
    print READY
"""


def in_zsh(host: Host, *words: str) -> set[str]:
    setup = host.place / "setup.zsh"
    setup.write_text(ZSH_SETUP % PLACE, encoding="utf-8")
    return set(host.run("zsh", "-f", "-c", ZSH_AT_A_TERMINAL, "-", str(setup), f"gitopsd {' '.join(words)}").split())


SHELLS: Mapping[str, Callable[..., set[str]]] = {"bash": in_bash, "zsh": in_zsh, "fish": in_fish}

Complete = Callable[..., set[str]]


@pytest.fixture(params=SHELLS)
def complete(request: pytest.FixtureRequest, host: Host) -> Complete:
    """What a shell offers for the last of some words."""
    name: str = request.param
    if not shutil.which(name):
        pytest.skip(f"no {name} here to try its completion in")
    return lambda *words: SHELLS[name](host, *words)


def test_the_commands_are_offered_first(complete: Complete) -> None:
    assert complete("") == set(commands())
    assert complete("--config", "some.yaml", "") == set(commands())


def test_a_beginning_chooses_among_the_commands(complete: Complete) -> None:
    assert complete("ca") == {"catchall"}


def test_the_options_of_a_command_are_offered_after_it(complete: Complete) -> None:
    for name, known in known_options().items():
        assert known <= complete(*filter(None, [name]), "--"), name
    assert complete("sync", "--no") == {"--no-wait"}


def test_an_option_is_not_offered_after_another_command(complete: Complete) -> None:
    assert {each for each in complete("status", "--") if each.startswith("--")} == {"--json", "--help"}


def test_repos_are_offered_where_one_is_taken(complete: Complete) -> None:
    for name in (*TAKE_A_REPO, "sync"):
        assert complete(name, "") >= REPOS, name
        assert complete(name, "my") == {"my-shop.v2"}, name
    for name in set(commands()) - {*TAKE_A_REPO, "sync"}:
        assert not complete(name, "") & REPOS, name


def test_a_repo_is_offered_once(complete: Complete) -> None:
    assert complete("sync", "--force", "blog", "") & REPOS == {"my-shop.v2"}
    for name in TAKE_A_REPO:
        assert not complete(name, "blog", "") & REPOS, name


def test_the_value_of_an_option_is_no_repo(complete: Complete) -> None:
    assert complete("history", "--limit", "5", "") >= REPOS
    assert not complete("history", "--limit", "") & REPOS


def test_the_repos_are_those_of_the_configuration_on_the_line(complete: Complete, host: Host) -> None:
    complete("--config", "some.yaml", "why", "")

    assert host.asked() == ["--config some.yaml status --json"]


def test_nothing_is_asked_for_what_is_known(complete: Complete, host: Host) -> None:
    for words in ([""], ["--"], ["sync", "--"], ["add", "--strategy", ""], ["version", ""]):
        complete(*words)

    assert host.asked() == []


@pytest.mark.parametrize("program", ["exit 1", "echo 'Permission denied' >&2; exit 1", "echo '{'", "echo blog"])
def test_where_the_repos_cannot_be_had_none_is_offered(complete: Complete, host: Host, program: str) -> None:
    (host.place / "gitopsd").write_text(f"#!/bin/sh\n{program}\n", encoding="utf-8")

    assert {each for each in complete("why", "") if not each.startswith("-")} == set()


def test_a_file_is_offered_for_the_configuration(complete: Complete) -> None:
    assert "some.yaml" in complete("--config", "some.y")


def test_a_directory_is_offered_for_the_checkout(complete: Complete) -> None:
    assert {each.rstrip("/") for each in complete("add", "--path", "some")} == {"some-directory"}


def test_the_strategies_are_those_of_the_configuration_that_have_a_remote(complete: Complete) -> None:
    known = set(schema()["$defs"]["repo"]["properties"]["strategy"]["enum"])

    assert complete("add", "--strategy", "") == known - {"none"}


def values_of_options() -> list[tuple[str, str]]:
    return [
        (name, action.option_strings[-1])
        for name, parser in commands().items()
        for action in parser._actions
        if action.option_strings and action.nargs != 0
    ]


def test_where_a_value_is_due_neither_a_command_nor_an_option_is_offered(complete: Complete) -> None:
    for name, option in values_of_options():
        offered = complete(name, option, "")
        assert not offered & ({*commands()} | REPOS), option
        assert not [each for each in offered if each.startswith("--")], option


def test_bash_hands_over_an_option_and_its_value_in_pieces(host: Host) -> None:
    assert in_bash(host, "--config", "=", "some.y") == {"some.yaml"}
    assert in_bash(host, "--config", "=") >= {"some.yaml", "some-directory"}
    assert in_bash(host, "--config", "=", "some.yaml", "why", "") == REPOS
    assert host.asked() == ["--config some.yaml status --json"]


def test_bash_needs_none_of_the_functions_of_bash_completion() -> None:
    text = BASH.read_text(encoding="utf-8")

    assert re.findall(r"\b_(?:init_completion|comp_\w+|filedir|get_comp_words_by_ref|parse_help)\b", text) == []


@pytest.mark.parametrize(
    "argv",
    [["bash", "-n", str(BASH)], ["zsh", "-n", str(ZSH)], ["fish", "--no-execute", str(FISH)]],
    ids=lambda it: it[0],
)
def test_a_file_is_one_that_its_shell_can_read(host: Host, argv: Sequence[str]) -> None:
    if not shutil.which(argv[0]):
        pytest.skip(f"no {argv[0]} here to read its completion")

    assert host.run(*argv) == ""
