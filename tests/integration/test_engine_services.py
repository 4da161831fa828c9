"""Compose and units, with stand-ins for docker and systemctl: what they are asked for, and what comes of it."""

import os
import shlex
from pathlib import Path

import pytest

from tests.engine import DEPLOY_FAILED, MISCONFIGURED, Run
from tests.remote import Remote
from tests.strategies import Host, both_strategies, copy_of, path_without

# A line of the file NAME for each time that it is asked, the last one again and again: `what it says exit N`.
ANSWER = """
answer() {
    local file=$ANSWERS/$1 line
    [[ -f $file ]] || { echo "$2"; return 0; }
    read -r line <"$file"
    (($(wc -l <"$file") < 2)) || sed -i 1d "$file"
    printf '%b\\n' "${line% exit *}"
    [[ $line != *' exit '* ]] || return "${line##* exit }"
}
"""
DOCKER = f"""#!/bin/bash
{ANSWER}
echo "docker $* (in $(pwd -P))" >>"$ANSWERS/asked"
answer docker "" >&2
"""
SYSTEMCTL = f"""#!/bin/bash
{ANSWER}
if [[ $1 == show ]]; then
    property=${{3#--property=}}
    shift 3
    [[ $1 != -- ]] || shift
    for unit; do
        case $property in
            ActiveState) answer "$unit" active ;;
            InvocationID) answer "$unit.id" 0123456789abcdef ;;
            NeedDaemonReload) answer "$unit.reload" no ;;
        esac
        [[ $unit == "${{!#}}" ]] || echo
    done
    exit
fi
echo "systemctl $*" >>"$ANSWERS/asked"
[[ $1 != --no-ask-password ]] || shift
answer "$1" "" >&2
"""


@pytest.fixture(scope="session")
def first_remote(tmp_path_factory: pytest.TempPathFactory) -> Remote:
    remote = Remote.create(tmp_path_factory.mktemp("remote"))
    remote.push({"compose.yaml": "services: {}\n"})
    return remote


@pytest.fixture
def remote(tmp_path: Path, first_remote: Remote) -> Remote:
    return copy_of(first_remote, tmp_path)


@pytest.fixture
def strategy() -> str:
    return "in-place"


class Stage(Host):
    """A host whose docker and systemctl are stand-ins."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, script in (("docker", DOCKER), ("systemctl", SYSTEMCTL)):
            file = self.directory / "bin" / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(script)
            file.chmod(0o755)
        self.answers.mkdir()
        self.environment |= {
            "ANSWERS": str(self.answers),
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "GITOPSD_SETTLE": "0.1",
        }

    @property
    def answers(self) -> Path:
        return self.directory / "answers"

    def answer(self, name: str, *lines: str) -> None:
        (self.answers / name).write_text("".join(f"{line}\n" for line in lines))

    @property
    def asked(self) -> list[str]:
        file = self.answers / "asked"
        return file.read_text().splitlines() if file.exists() else []

    def fails(self, reason: str, **more: str | None) -> Run:
        run = self.sync(**more)
        assert run.code == DEPLOY_FAILED, run.everything
        assert reason in run["reason"], run["reason"]
        return run


@pytest.fixture
def host(tmp_path: Path, remote: Remote, strategy: str) -> Stage:
    return Stage(directory=tmp_path, remote=remote, strategy=strategy)


@pytest.fixture
def compose(host: Stage) -> Stage:
    host.environment["GITOPSD_COMPOSE"] = "compose.yaml"
    return host


@pytest.fixture
def units(host: Stage) -> Stage:
    host.environment["GITOPSD_UNITS"] = "blog.service blog.timer"
    return host


RESTART = "systemctl --no-ask-password restart -- blog.service blog.timer"


@both_strategies
def test_all_of_them_come_in_their_order(compose: Stage, units: Stage, remote: Remote) -> None:
    asked = compose.answers / "asked"
    for name in ("gate", "deploy", "health"):
        compose.environment[f"GITOPSD_{name.upper()}"] = shlex.join(["sh", "-c", f"echo {name} >>{asked}"])
    run = compose.synced()
    assert [line.split(" (")[0] for line in compose.asked] == [
        "gate",
        "deploy",
        "docker compose --project-name blog --file compose.yaml up --detach --wait",
        RESTART,
        "health",
    ]
    assert run.phases[-2:] == ["deploy", "health"] or run.phases[-3:] == ["deploy", "health", "prune"]
    assert compose.ask("rev-parse", "refs/gitopsd/deployed") == remote.tip()


# Compose


@both_strategies
def test_compose_runs_in_the_tree_and_by_the_name_of_the_repo(compose: Stage, remote: Remote) -> None:
    for _ in range(2):
        compose.deployed(remote.push())
        command, place = compose.asked[-1].rstrip(")").split(" (in ")
        assert command.startswith("docker compose --project-name blog ")
        assert place == str(compose.path.resolve())


def test_a_repo_with_a_dot_in_its_name_is_a_project_without(compose: Stage) -> None:
    assert compose.sync("my.blog_1-a").code == 0
    assert "--project-name my-blog_1-a " in compose.asked[0]


def test_compose_is_enough_of_a_deploy(compose: Stage, remote: Remote) -> None:
    compose.synced(GITOPSD_DEPLOY="")
    assert compose.synced(GITOPSD_DEPLOY="")["changed"] == "no"
    assert compose.synced(GITOPSD_DEPLOY="", GITOPSD_FORCE="yes")["changed"] == "yes"
    assert len(compose.asked) == 2


def test_a_compose_that_fails_is_a_failed_deploy_and_is_run_again(compose: Stage, units: Stage) -> None:
    compose.answer("docker", "no such image exit 17", "")
    assert "no such image" in compose.fails("compose: docker exited with 17").everything
    assert len(compose.asked) == 1
    compose.synced()
    assert len(compose.asked) == 3


def test_a_compose_that_fails_is_rolled_back(compose: Stage, remote: Remote) -> None:
    compose.environment["GITOPSD_ROLLBACK"] = "yes"
    good = remote.tip()
    compose.deployed(good)
    remote.push()
    compose.answer("docker", "no such image exit 17", "")
    run = compose.fails(f"compose: docker exited with 17; rolled back to {good[:12]}")
    assert run["rolled_back"] == good
    assert len(compose.asked) == 3
    compose.is_at(good)


def test_without_docker_compose_says_so(compose: Stage) -> None:
    path = path_without(compose.directory / "commands", "docker")
    compose.fails(f"compose: docker is not installed (PATH={path})", PATH=path)


def test_a_compose_file_that_is_not_there_is_named(compose: Stage) -> None:
    compose.fails("compose: web/compose.yaml is not there (in ", GITOPSD_COMPOSE="web/compose.yaml")
    assert compose.asked == []


# Units


@both_strategies
def test_units_are_restarted_for_each_new_revision_and_not_for_the_same(units: Stage, remote: Remote) -> None:
    units.environment["GITOPSD_DEPLOY"] = ""
    for count in (1, 2):
        remote.push()
        assert units.synced()["changed"] == "yes"
        assert units.synced()["changed"] == "no"
        assert units.asked == [RESTART] * count


@pytest.mark.parametrize("which", ["blog.service", "blog.timer"])
def test_systemd_reads_units_again_that_have_changed(units: Stage, which: str) -> None:
    units.answer(f"{which}.reload", "yes")
    units.synced()
    assert units.asked == ["systemctl --no-ask-password daemon-reload", RESTART]


@pytest.mark.parametrize(
    ("states", "ids", "reason"),
    [
        (["failed"], ["1"], "health: blog.service is failed; see: journalctl -u blog.service blog.timer"),
        (["active", "failed"], ["1"], "health: blog.service is failed"),
        (["active", "activating"], ["1"], "health: blog.service is activating"),
        (["active", "inactive"], ["1"], "health: blog.service is inactive"),
        (["active", "activating", "active"], ["1"], "health: blog.service blog.timer did not stay active for 60 s"),
        (["active"], ["1", "1", "2"], "health: blog.service blog.timer did not stay active for 60 s"),
    ],
)
def test_a_unit_that_does_not_stay_active_is_a_failed_health_check(
    units: Stage, states: list[str], ids: list[str], reason: str
) -> None:
    units.answer("blog.service", *states)
    units.answer("blog.service.id", *ids)
    run = units.fails(reason, GITOPSD_SETTLE="60")
    assert run.phases[-1] == "health"


def test_a_unit_may_take_a_while_to_become_active(units: Stage) -> None:
    units.answer("blog.service", "activating", "activating", "reloading", "active")
    units.synced()


def test_a_unit_that_never_becomes_active_is_given_up(units: Stage) -> None:
    units.answer("blog.timer", "activating")
    units.fails("health: blog.timer is activating; see: journalctl -u blog.service blog.timer")


NEEDS_LEAVE = "Interactive authentication required."
SEE = "\\nSee system logs and 'systemctl status blog.service' for details."
WARNING = "Warning: The unit file of blog.service changed on disk.\\n"


@pytest.mark.parametrize(
    ("command", "answer", "said"),
    [
        ("restart", f"Failed to restart blog.service: {NEEDS_LEAVE}{SEE}", f"restart blog.service: {NEEDS_LEAVE}"),
        ("restart", f"{WARNING}Failed to restart blog.service: Access denied", "restart blog.service: Access denied"),
        ("daemon-reload", f"Failed to reload daemon: {NEEDS_LEAVE}", f"reload daemon: {NEEDS_LEAVE}"),
    ],
)
def test_what_polkit_denies_says_what_to_do(units: Stage, command: str, answer: str, said: str) -> None:
    units.answer("blog.service.reload", "yes")
    units.answer(command, f"{answer} exit 1")
    units.fails(f"units: systemctl {command}: Failed to {said}; docs/engine.md shows what polkit has to allow")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (f"Failed to restart blog.service: Unit blog.service not found.{SEE}", "Unit blog.service not found."),
        (f"Job for blog.service failed because it crashed.{SEE}", "Job for blog.service failed because it crashed."),
        ("Connection timed out", "Connection timed out"),
    ],
)
def test_a_unit_that_cannot_be_restarted_is_a_failed_deploy(units: Stage, answer: str, said: str) -> None:
    units.answer("restart", f"{answer} exit 1")
    assert units.fails("units: systemctl restart: ")["reason"].endswith(said)


def test_without_systemctl_units_say_so(units: Stage) -> None:
    path = path_without(units.directory / "commands", "systemctl")
    units.fails(f"units: systemctl is not installed (PATH={path})", PATH=path)


@both_strategies
def test_a_unit_that_fails_is_rolled_back_and_restarted_with_what_was_before(units: Stage, remote: Remote) -> None:
    units.environment["GITOPSD_ROLLBACK"] = "yes"
    good = remote.tip()
    units.deployed(good)
    bad = remote.push()
    units.answer("blog.service", "failed", "failed", "active")
    run = units.fails(
        f"health: blog.service is failed; see: journalctl -u blog.service blog.timer; rolled back to {good[:12]}"
    )
    assert run["rolled_back"] == good
    assert units.asked == [RESTART] * 3
    assert units.deploys == [good, bad, good]
    units.is_at(good)


def test_a_settle_that_is_no_number_is_a_wrong_configuration(units: Stage) -> None:
    units.in_vain("GITOPSD_SETTLE '5s' is not a number", code=MISCONFIGURED, GITOPSD_SETTLE="5s")
