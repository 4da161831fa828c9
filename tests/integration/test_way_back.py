"""The engine is killed where a rollback begins: the next sync goes back, whatever was written down by then."""

import os
import shlex
from pathlib import Path

import pytest

from tests.engine import DEPLOY_FAILED, REFUSED
from tests.remote import Remote
from tests.strategies import Host, both_strategies

# Ends the whole engine before or after git has written where to go back to.
KILLER = """#!/bin/bash
[[ " $* " == *" update-ref refs/gitopsd/rollback "* ]] || exec "$REAL_GIT" "$@"
[[ $KILL == before ]] || "$REAL_GIT" "$@"
kill -KILL 0
"""


@pytest.fixture
def host(tmp_path: Path, strategy: str) -> Host:
    """One where a good revision is deployed, and a bad one is pushed."""
    here = Host(directory=tmp_path, remote=Remote.create(tmp_path), strategy=strategy)
    deploy = 'test ! -e bad && echo "$GITOPSD_NEW_REVISION" >>"$1"'
    here.environment |= {
        "GITOPSD_DEPLOY": shlex.join(["sh", "-c", deploy, "deploy", str(tmp_path / "deploys")]),
        "GITOPSD_ROLLBACK": "yes",
    }
    here.deployed(here.remote.tip())
    return here


def kill_where_it_turns_back(host: Host, when: str) -> None:
    commands = host.directory / "commands"
    commands.mkdir()
    (commands / "git").write_text(KILLER)
    (commands / "git").chmod(0o755)
    path = os.environ["PATH"]
    real = next(str(Path(each) / "git") for each in path.split(":") if (Path(each) / "git").exists())
    run = host.sync(PATH=f"{commands}:{path}", REAL_GIT=real, KILL=when)
    assert run.code < 0
    assert "rolled_back" not in run.output


@both_strategies
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_rollback_that_was_killed_as_it_began_is_made_good_by_the_next_sync(host: Host, when: str) -> None:
    good = host.standing
    bad = host.remote.push({"bad": "one\n"})
    kill_where_it_turns_back(host, when)
    assert host.standing == bad

    run = host.sync()

    assert run.code == DEPLOY_FAILED
    assert run["rolled_back"] == good
    host.is_at(good)
    assert host.sync().code == REFUSED
    assert "bad" not in {path.name for path in host.path.iterdir()}


@both_strategies
def test_a_rollback_that_was_killed_as_it_began_goes_on_without_the_remote(host: Host) -> None:
    good = host.standing
    host.remote.push({"bad": "one\n"})
    kill_where_it_turns_back(host, "after")
    host.remote.bare.rename(host.directory / "gone.git")

    host.sync()

    host.is_at(good)
