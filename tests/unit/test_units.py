"""Syncs as units of systemd, as far as that can be told without one: their names, and when they are taken."""

import importlib.util
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from gitopsd import config as configuration
from gitopsd import runner
from gitopsd.discovery import NAME
from gitopsd.errors import GitopsdError
from gitopsd.journal import Kind
from gitopsd.runner import LocalRunner, UnitRunner, UnitState, units
from gitopsd.settings import Config
from tests import catalog

# Each dash becomes four letters, and systemd takes no name of more than 255.
FIXED = len("gitopsd-sync@.service")
NAMES = some.from_regex(NAME, fullmatch=True).filter(lambda name: FIXED + len(name) + 3 * name.count("-") <= 255)


@pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="needs systemd-escape to compare with")
@settings(deadline=None, max_examples=30)
@given(names=some.lists(NAMES, min_size=1, max_size=40))
def test_a_unit_is_called_as_systemd_escape_would_call_it(names: list[str]) -> None:
    argv = ["systemd-escape", "--template=gitopsd-sync@.service", *names]
    escaped = subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    assert [runner.unit_of(name) for name in names] == escaped.rstrip("\n").split(" ")


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("blog", "gitopsd-sync@blog.service"),
        ("0", "gitopsd-sync@0.service"),
        ("my-blog", r"gitopsd-sync@my\x2dblog.service"),
        ("a.b_c-", r"gitopsd-sync@a.b_c\x2d.service"),
    ],
)
def test_a_dash_is_escaped_in_the_name_of_a_unit_and_all_else_stays(name: str, unit: str) -> None:
    assert runner.unit_of(name) == unit


def test_a_name_that_makes_too_long_a_unit_is_told_so_in_one_line() -> None:
    assert len(runner.unit_of(f"ab{'-' * 58}")) == 255
    for name in (f"abc{'-' * 58}", f"a{'-' * 62}"):
        assert NAME.fullmatch(name)
        with pytest.raises(GitopsdError) as caught:
            runner.unit_of(name)
        assert str(caught.value) == f"the name '{name}' is too long for a unit: each dash counts as four letters"


@given(one=NAMES, other=NAMES)
def test_two_repos_never_share_a_unit(one: str, other: str) -> None:
    assert (runner.unit_of(one) == runner.unit_of(other)) is (one == other)


# When they are taken


class Host:
    """What a host has, or seems to have."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.booted, self.directory, self.packages = root / "run", root / "units", root / "packages"
        monkeypatch.setattr(units, "_BOOTED", self.booted)
        monkeypatch.setattr(units, "_UNIT_DIRECTORIES", (root / "none", self.directory))
        self.booted.mkdir()
        self.directory.mkdir()
        (self.directory / "gitopsd-sync@.service").touch()
        (self.packages / "pystemd").mkdir(parents=True)
        (self.packages / "pystemd" / "__init__.py").touch()
        monkeypatch.syspath_prepend(self.packages)
        monkeypatch.delitem(sys.modules, "pystemd", raising=False)
        assert importlib.util.find_spec("pystemd")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def take_away(what: str, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    if what == "systemd":
        host.booted.rmdir()
    elif what == "the unit":
        (host.directory / "gitopsd-sync@.service").unlink()
    else:
        monkeypatch.setitem(sys.modules, "pystemd", None)


MISSING = {
    "systemd": "systemd has not booted this host",
    "the unit": "gitopsd-sync@.service is not installed",
    "pystemd": "pystemd is not installed (python3-pystemd)",
}


def config(kind: str, source: Path = configuration.DEFAULT_PATH) -> Config:
    return Config(source=source, state_dir=Path("/nonexistent"), engine=Path("/nonexistent"), runner=kind)


def test_where_units_can_be_had_they_are_taken_with_the_configuration_that_they_read(host: Host) -> None:
    assert runner.uses_units(config("auto"))
    assert isinstance(runner.choose(config("auto"), str, set()), UnitRunner)


def test_a_daemon_with_another_configuration_does_not_use_units_unless_it_is_told_to(host: Host) -> None:
    other = Path("/home/me/gitopsd.yaml")
    assert not runner.uses_units(config("auto", other))
    assert isinstance(runner.choose(config("auto", other), str, set()), LocalRunner)
    assert runner.uses_units(config("systemd", other))


def test_who_wants_child_processes_never_gets_units(host: Host) -> None:
    assert not runner.uses_units(config("local"))
    assert isinstance(runner.choose(config("local"), str, set()), LocalRunner)


@pytest.mark.parametrize("what", MISSING)
def test_where_units_cannot_be_had_they_are_not_taken(host: Host, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    take_away(what, host, monkeypatch)
    assert units.reason_against() == MISSING[what]
    for kind in ("auto", "local"):
        assert not runner.uses_units(config(kind))


@pytest.mark.parametrize("what", MISSING)
def test_who_wants_units_where_they_cannot_be_had_is_told_why_in_one_line(
    host: Host, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_away(what, host, monkeypatch)
    for ask in (runner.uses_units, lambda asked: runner.choose(asked, str, set())):
        with pytest.raises(GitopsdError) as caught:
            ask(config("systemd"))
        assert str(caught.value) == f"runner: systemd: {MISSING[what]}"


# How they end


@pytest.mark.parametrize(
    ("active", "queued", "ended"),
    [
        ("inactive", False, True),
        ("failed", False, True),
        ("inactive", True, False),  # about to start
        ("failed", True, False),
        ("activating", False, False),
        ("activating", True, False),
        ("active", False, False),
        ("deactivating", False, False),
        ("reloading", False, False),
    ],
)
def test_a_unit_has_ended_when_it_neither_runs_nor_is_about_to(active: str, queued: bool, ended: bool) -> None:
    assert UnitState(active=active, queued=queued).has_ended is ended


@pytest.mark.parametrize(("active", "code", "kinds"), [("inactive", 0, set()), ("failed", 1, {Kind.SYNC_NOT_STARTED})])
def test_the_end_of_a_unit_is_told_once_and_its_failure_is_explained(
    active: str, code: int, kinds: set[Kind], caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[str, int]] = []
    ours = UnitRunner()
    ours._on_end["my-blog"] = lambda repo, exit_code: heard.append((repo, exit_code))

    with caplog.at_level(logging.INFO):
        ours._tell_end("my-blog", UnitState(active=active))

    assert heard == [("my-blog", code)]
    assert ours.running() == []
    assert catalog.kinds_of(caplog.records) == kinds
    assert all(r"journalctl -u 'gitopsd-sync@my\x2dblog.service'" in message for message in caplog.messages)
