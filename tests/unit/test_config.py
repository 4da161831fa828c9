"""The configuration: what is accepted, what it becomes, and every problem at once."""

import datetime
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some

from gitopsd import process
from gitopsd.config import DEFAULT_RECEIVER, default_state_dir, dump, has_credentials, load, schema
from gitopsd.errors import ConfigError
from gitopsd.providers import PROVIDERS
from gitopsd.settings import Config, Health, Keep, Limits, Notify, Proxy, Receiver, Repo, Retry, Statuses
from tests.conftest import ForNobody

BLOG = {"url": "git@github.com:me/blog.git", "path": "/srv/blog"}


@pytest.fixture(autouse=True)
def no_directories_from_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gitopsd.yaml"


def load_text(path: Path, text: str) -> Config:
    path.write_text(text, encoding="utf-8")
    return load(path)


def load_data(path: Path, data: Mapping[str, Any]) -> Config:
    return load_text(path, yaml.safe_dump(dict(data)))


def problems(path: Path, text: str | None = None) -> list[str]:
    """The problems of what is in `path`, without the folder in which they are."""
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [problem.removeprefix(f"{path.parent}/") for problem in caught.value.problems]


def repo_problems(path: Path, settings_of_repo: str) -> list[str]:
    return problems(path, f"repos:\n  blog:\n    url: x\n    path: /srv/blog\n    {settings_of_repo}\n")


# What it becomes


def test_an_empty_file_is_a_configuration_of_defaults(path: Path) -> None:
    config = load_text(path, "# nothing yet\n")

    assert config == Config(
        source=path,
        state_dir=Path("/var/lib/gitopsd"),
        engine=config.engine,
        receivers={"default": Receiver(name="default", provider="github", secrets=("github-webhook-secret",))},
    )
    assert config.engine.name == "gitops_sync.sh"
    assert config.engine.exists()


def test_every_setting_becomes_what_it_says(path: Path, tmp_path: Path) -> None:
    text = f"""
        state_dir: /var/lib/other
        runner: local
        engine: /usr/local/lib/my_sync
        max_parallel: 8
        max_body: 1M
        stop_timeout: 1500ms
        idle_exit: 90m
        proxy: {{trusted: [127.0.0.1, "2001:db8::/32", unix], header: X-Forwarded-For}}
        roots: [{tmp_path}, {tmp_path}]
        receivers:
          hub: {{provider: github, secrets: [new-secret, old-secret]}}
          ruled:
            provider: registry
            secrets: [ruled]
            header: X-Token
            repos: [blog, purge]
            events: [push, "re*"]
            refs: [refs/heads/*]
            paths: [site/**, "*.md"]
            images: [me/*]
            tags: [v*, latest]
            allow_from: [192.0.2.7/24, "2001:db8::1", unix]
            suspended: the forge is being moved
            max_body: 1M
        retry: {{tries: 2, delay: 1m, max_delay: 2h}}
        keep: {{deliveries: 100, bodies: 0, jobs: 10, logs: 1, log_size: 64K}}
        notify: {{urls: [ntfy-url, mail-url], on: [failure, success]}}
        repos:
          blog:
            url: git@github.com:me/blog.git
            ref: release/1.x
            path: /srv/blog
            strategy: in-place
            deploy: [./deploy.sh, --fast, "2"]
            timeout: 1d
            images: [me/blog, "ghcr.io/me/blog-*"]
            retry: {{tries: 9, delay: 5s, max_delay: 1m}}
          site:
            url: https://git.example.org/me/site.git
            ref: v*
            path: /srv/site/current
            strategy: release
            gate: [make, "test it"]
            deploy: [./deploy.sh]
            compose: deploy/compose.yaml
            units: [site.service, "site@1.timer"]
            settle: 500ms
            health: {{command: [curl, -f, "http://127.0.0.1"], interval: 1m, tries: 3, timeout: 2s}}
            rollback: true
            keep: 7
            submodules: false
            depth: 5
            filter: blob:limit=1m
            rewind: allow
            local_changes: rescue
            verify: ssh
            allowed_signers: /etc/gitopsd/allowed_signers
            keyring: /etc/gitopsd/keyring.gpg
            merge_by: [noreply@example.org]
            clean: untracked
            drift: repair
            statuses: {{forge: gitea, token: forge-token, api: https://git.example.org/api/v1, context: gitopsd/one}}
          purge:
            path: /srv
            strategy: none
            deploy: [purge]
    """
    config = load_text(path, text)

    assert config == Config(
        source=path,
        state_dir=Path("/var/lib/other"),
        engine=Path("/usr/local/lib/my_sync"),
        runner="local",
        max_parallel=8,
        max_body=1024 * 1024,
        stop_timeout_sec=1.5,
        idle_exit_sec=5400.0,
        proxy=Proxy(trusted=("127.0.0.1", "2001:db8::/32", "unix"), header="X-Forwarded-For"),
        receivers={
            "hub": Receiver(name="hub", provider="github", secrets=("new-secret", "old-secret")),
            "ruled": Receiver(
                name="ruled",
                provider="registry",
                secrets=("ruled",),
                header="X-Token",
                repos=("blog", "purge"),
                events=("push", "re*"),
                refs=("refs/heads/*",),
                paths=("site/**", "*.md"),
                images=("me/*",),
                tags=("v*", "latest"),
                allow_from=("192.0.2.7/24", "2001:db8::1", "unix"),
                suspended="the forge is being moved",
                max_body=1024 * 1024,
            ),
        },
        roots=(tmp_path,),
        repos={
            "blog": Repo(
                name="blog",
                url="git@github.com:me/blog.git",
                ref="release/1.x",
                path=Path("/srv/blog"),
                deploy=("./deploy.sh", "--fast", "2"),
                timeout_sec=86400.0,
                images=("me/blog", "ghcr.io/me/blog-*"),
                retry=Retry(tries=9, delay_sec=5.0, max_delay_sec=60.0),
            ),
            "site": Repo(
                name="site",
                url="https://git.example.org/me/site.git",
                ref="v*",
                path=Path("/srv/site/current"),
                strategy="release",
                gate=("make", "test it"),
                deploy=("./deploy.sh",),
                compose="deploy/compose.yaml",
                units=("site.service", "site@1.timer"),
                settle_sec=0.5,
                health=Health(command=("curl", "-f", "http://127.0.0.1"), interval_sec=60.0, tries=3, timeout_sec=2.0),
                rollback=True,
                keep=7,
                submodules=False,
                depth=5,
                filter="blob:limit=1m",
                rewind="allow",
                local_changes="rescue",
                verify="ssh",
                allowed_signers="/etc/gitopsd/allowed_signers",
                keyring="/etc/gitopsd/keyring.gpg",
                merge_by=("noreply@example.org",),
                clean="untracked",
                drift="repair",
                statuses=Statuses(
                    forge="gitea",
                    token="forge-token",
                    api="https://git.example.org/api/v1",
                    context="gitopsd/one",
                ),
            ),
            "purge": Repo(name="purge", url="", ref="", path=Path("/srv"), strategy="none", deploy=("purge",)),
        },
        retry=Retry(tries=2, delay_sec=60.0, max_delay_sec=7200.0),
        keep=Keep(deliveries=100, bodies=0, jobs=10, logs=1, log_bytes=64 * 1024),
        notify=Notify(urls=("ntfy-url", "mail-url"), on=("failure", "success")),
    )
    assert load_text(path, dump(config)) == config


def test_what_is_handed_to_a_sync_is_the_configuration_in_force(path: Path) -> None:
    config = load_data(path, {"repos": {"blog": {**BLOG, "deploy": ["./deploy.sh", "ä"]}}, "idle_exit": "never"})
    with process.open_memory("gitopsd.yaml", dump(config)) as file:
        handed = load(Path(process.path_of(file)))
    assert handed._replace(source=config.source) == config


def test_a_file_in_memory_that_gitopsd_has_not_made_is_looked_at_as_any_other() -> None:
    with process.open_memory("gitopsd.yaml", "repos: 1\n") as file, pytest.raises(ConfigError, match="repos"):
        load(Path(process.path_of(file)))


def test_a_descriptor_that_is_not_there_is_a_missing_file() -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(Path("/proc/self/fd/987654"))


def test_a_repo_needs_no_more_than_url_and_path(path: Path) -> None:
    repo = load_data(path, {"repos": {"blog": BLOG}}).repos["blog"]

    assert repo == Repo(name="blog", url=BLOG["url"], ref="main", path=Path("/srv/blog"))
    assert (repo.strategy, repo.deploy, repo.timeout_sec, repo.opted_in_by_file) == ("in-place", (), 600.0, False)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1ms", 0.001), ("007s", 7), ("250ms", 0.25), ("90s", 90), ("10m", 600), ("2h", 7200), ("30d", 30 * 86400)],
)
def test_durations_are_a_number_and_a_unit(path: Path, text: str, seconds: float) -> None:
    assert load_data(path, {"stop_timeout": text}).stop_timeout_sec == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "seconds"), [("5m", 300.0), ("500ms", 0.5), ("007h", 25200.0), ("1d", 86400.0), ("never", None)]
)
def test_an_idle_daemon_ends_after_a_while_or_never(path: Path, text: str, seconds: float | None) -> None:
    config = load_data(path, {"idle_exit": text})

    assert config.idle_exit_sec == seconds
    assert load_text(path, dump(config)) == config


@pytest.mark.parametrize(
    "value", ["", "5", 5, 0, "0s", "-1s", "1.5s", "5 m", "5m\n", "Never", "never ", "neverever", "no", False, None, []]
)
def test_what_is_neither_a_while_nor_never_is_told_what_is(path: Path, value: Any) -> None:
    (problem,) = problems(path, yaml.safe_dump({"max_parallel": 2, "idle_exit": value}, sort_keys=False))

    assert problem.startswith("gitopsd.yaml:2: idle_exit: ")
    assert problem.endswith("(a number with ms, s, m, h or d), or 'never'")


@pytest.mark.parametrize("kind", ["auto", "systemd", "local"])
def test_a_sync_is_started_in_one_of_three_ways(path: Path, kind: str) -> None:
    config = load_data(path, {"runner": kind})

    assert config.runner == kind
    assert load_text(path, dump(config)) == config


@pytest.mark.parametrize("value", ["units", "Systemd", "", True])
def test_another_way_to_start_a_sync_is_told_the_three_that_there_are(path: Path, value: Any) -> None:
    (problem,) = problems(path, yaml.safe_dump({"runner": value}))

    assert problem.startswith("gitopsd.yaml:1: runner: ")
    for kind in ("auto", "systemd", "local"):
        assert f"'{kind}'" in problem


@pytest.mark.parametrize(
    ("value", "size"),
    [(1, 1), (26214400, 26214400), ("512", 512), ("64K", 65536), ("25M", 25 * 1024**2), ("2G", 2 * 1024**3)],
)
def test_sizes_are_bytes_or_have_a_unit(path: Path, value: str | int, size: int) -> None:
    assert load_data(path, {"max_body": value}).max_body == size


@pytest.mark.parametrize(
    "value", ["0s", "0ms", "00d", "10", 10, "1.5h", "10 m", "10M", "m", "-1s", "1w", "10m\n", "", None, "\u0661s"]
)
def test_what_is_no_duration_is_told_what_one_is(path: Path, value: Any) -> None:
    (problem,) = problems(path, yaml.safe_dump({"stop_timeout": value}))

    assert problem.startswith("gitopsd.yaml:1: stop_timeout: ")
    assert problem.endswith("(a number with ms, s, m, h or d)")


@pytest.mark.parametrize("value", ["25MB", "25m", "1.5M", -1, 0, "0", "0K", "K", "25M\n", "", 25.5, True, None, [25]])
def test_what_is_no_size_is_told_what_one_is(path: Path, value: Any) -> None:
    (problem,) = problems(path, yaml.safe_dump({"max_body": value}))

    assert problem.startswith("gitopsd.yaml:1: max_body: ")
    assert "in bytes or with K, M or G" in problem


@pytest.mark.parametrize(
    ("ref", "found"), [("main", "main"), ("refs/heads/main", "main"), ("feature/x-1", "feature/x-1"), ("v1.2", "v1.2")]
)
def test_a_ref_is_the_name_of_a_branch(path: Path, ref: str, found: str) -> None:
    assert load_data(path, {"repos": {"blog": {**BLOG, "ref": ref}}}).repos["blog"].ref == found


@pytest.mark.parametrize("ref", ["v*", "*", "v?.0", "release-*", "refs/tags/v*", "refs/tags/v1.2"])
def test_a_ref_may_be_a_pattern_of_tags_too_and_stays_as_it_is_written(path: Path, ref: str) -> None:
    config = load_data(path, {"repos": {"blog": {**BLOG, "ref": ref}}})

    assert config.repos["blog"].ref == ref
    assert load_text(path, dump(config)) == config


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "-main",
        "--upload-pack=x",
        "refs/heads/",
        "refs/heads/-x",
        "refs/heads/v*",
        "refs/heads/v?",
        "refs/pull/1/head",
        "refs/tags/",
        "refs/tags/-x",
        "refs/*",
        "v[0-9]",
        "a b",
        "a:b",
        "a^",
        "main\n",
        "/a",
    ],
)
def test_a_ref_that_git_would_take_for_something_else_is_a_problem(path: Path, ref: str) -> None:
    (problem,) = problems(path, yaml.safe_dump({"repos": {"blog": {**BLOG, "ref": ref}}}))

    assert "repos.blog.ref: " in problem


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "/var/lib/gitopsd"),
        ("", "/var/lib/gitopsd"),
        ("/var/lib/x", "/var/lib/x"),
        ("/var/lib/x:/var/lib/y", "/var/lib/x"),
    ],
)
def test_the_state_directory_comes_from_systemd_unless_it_is_configured(
    path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    if given is not None:
        monkeypatch.setenv("STATE_DIRECTORY", given)

    assert str(load_text(path, "").state_dir) == expected
    assert default_state_dir() == expected
    assert load_data(path, {"state_dir": "/mine"}).state_dir == Path("/mine")


# Receivers and their rules


def receiver(**rules: Any) -> dict[str, Any]:
    return {"receivers": {"hub": {"provider": "github", "secrets": ["hub"], **rules}}}


def test_a_receiver_has_no_rule_that_it_is_not_given(path: Path) -> None:
    found = load_data(path, receiver()).receivers["hub"]

    assert found == Receiver(name="hub", provider="github", secrets=("hub",))
    assert (found.repos, found.suspended, found.max_body) == (None, None, None)
    assert (found.events, found.refs, found.paths, found.images, found.tags, found.allow_from) == ((),) * 6


@pytest.mark.parametrize(
    ("text", "suspended"),
    [
        ("true", ""),
        ("yes", ""),
        ("false", None),
        ("no", None),
        ("until Monday", "until Monday"),
        ('"true"', "true"),
        ('"false"', "false"),
        ('"' + "x" * 200 + '"', "x" * 200),
    ],
)
def test_a_receiver_is_suspended_or_not_and_may_say_why(path: Path, text: str, suspended: str | None) -> None:
    config = load_text(path, f"receivers: {{hub: {{provider: github, secrets: [hub], suspended: {text}}}}}\n")

    assert config.receivers["hub"].suspended == suspended
    assert load_text(path, dump(config)) == config


@pytest.mark.parametrize("value", ["", "x" * 201, "a\nb", "until Monday\n", 1, 0, None, [], {"since": "Monday"}])
def test_what_is_no_reason_to_suspend_a_receiver_is_told_what_one_is(path: Path, value: Any) -> None:
    (problem,) = problems(path, yaml.safe_dump(receiver(suspended=value)))

    assert problem.startswith("gitopsd.yaml:")
    assert "receivers.hub.suspended: " in problem
    assert "wanted: true or a text that says why" in problem


@pytest.mark.parametrize("key", ["events", "refs", "paths", "images", "tags"])
@pytest.mark.parametrize("value", [[], "main", [""], ["a\nb"], ["main\n"], [5], [None], ["x" * 256], {"a": "b"}, None])
def test_what_is_no_list_of_patterns_is_a_problem(path: Path, key: str, value: Any) -> None:
    (problem,) = problems(path, yaml.safe_dump(receiver(**{key: value})))

    assert f"receivers.hub.{key}" in problem
    assert "wanted: list of patterns" in problem or "wanted: a pattern, in quotes" in problem
    if key == "images":
        (problem,) = problems(path, yaml.safe_dump({"repos": {"blog": BLOG | {key: value}}}))
        assert f"repos.blog.{key}" in problem


@pytest.mark.parametrize("network", ["10.0.0.0/33", "10.0.0", "10.0.0.256", "2001:db8::/129", "localhost", "Unix", "1"])
def test_a_network_that_is_none_is_named_with_its_line(path: Path, network: str) -> None:
    text = f"""\
receivers:
  hub:
    provider: github
    secrets: [hub]
    allow_from:
      - 192.0.2.7/24
      - {network!r}
proxy:
  header: X-Forwarded-For
  trusted: [unix, {network!r}, "::1"]
"""
    what = "is no network; write an address, or one such as 192.168.0.0/16"

    assert problems(path, text) == [
        f"gitopsd.yaml:7: receivers.hub.allow_from.1: {what}",
        f"gitopsd.yaml:10: proxy.trusted.1: {what}",
    ]


@pytest.mark.parametrize("value", [[], "10.0.0.0/8", [""], ["10.0.0.0/8\n"], ["fe80::1%eth0"], [10], [None], None])
def test_what_is_no_list_of_networks_is_a_problem(path: Path, value: Any) -> None:
    for data in (receiver(allow_from=value), {"proxy": {"trusted": value, "header": "X-Real-IP"}}):
        found = problems(path, yaml.safe_dump(data))
        assert [each for each in found if " is not right; wanted: " in each]
        assert all("allow_from" in each or "proxy.trusted" in each for each in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", ["proxy: 'trusted' is missing: list of the networks ", "proxy: 'header' is missing: the header that "]),
        ("{trusted: [unix]}", ["proxy: 'header' is missing: the header that "]),
        ("{header: X-Real-IP}", ["proxy: 'trusted' is missing: list of the networks "]),
        ("{trusted: [unix], header: X, headers: Y}", ["proxy.headers: unknown key; did you mean 'header'?"]),
        ("{trusted: [unix], header: 'X Y'}", ["proxy.header: this text is not right; wanted: the header that "]),
        ("{trusted: [unix], header: 'X-Y\n'}", ["proxy.header: this text is not right; wanted: the header that "]),
        ("[unix]", ["proxy: a list is not right; wanted: the proxies in front of the socket "]),
    ],
)
def test_a_proxy_is_named_by_its_networks_and_its_header(path: Path, text: str, expected: list[str]) -> None:
    found = problems(path, f"proxy: {text}\n")

    assert [
        problem
        for problem, start in zip(found, expected, strict=True)
        if not problem.startswith(f"gitopsd.yaml:1: {start}")
    ] == []


# A command alone


def test_a_repo_without_git_is_a_path_and_a_command(path: Path) -> None:
    config = load_text(path, "repos: {purge: {strategy: none, path: /srv, deploy: [./purge.sh], images: [me/*]}}\n")

    assert config.repos["purge"] == Repo(
        name="purge", url="", ref="", path=Path("/srv"), strategy="none", deploy=("./purge.sh",), images=("me/*",)
    )
    assert load_text(path, dump(config)) == config


@pytest.mark.parametrize(
    ("settings_of_it", "expected"),
    [
        ("path: /srv", ["repos.purge: 'deploy' is missing: the command that is run "]),
        ("deploy: [./purge.sh]", ["repos.purge: 'path' is missing: absolute path "]),
        ("path: /srv, deploy: [x], url: x", ["repos.purge.url: this text is not right; wanted: left out, as the "]),
        ("path: /srv, deploy: [x], ref: main", ["repos.purge.ref: this text is not right; wanted: left out, as the "]),
        (
            "path: /srv, url: x, ref: main",
            ["repos.purge.ref: this text ", "repos.purge.url: this text ", "repos.purge: 'deploy' is missing: "],
        ),
    ],
)
def test_a_repo_without_git_needs_its_command_and_takes_nothing_of_git(
    path: Path, settings_of_it: str, expected: list[str]
) -> None:
    found = sorted(problems(path, f"repos: {{purge: {{strategy: none, {settings_of_it}}}}}\n"))

    assert [
        problem
        for problem, start in zip(found, expected, strict=True)
        if not problem.startswith(f"gitopsd.yaml:1: {start}")
    ] == []
    assert all("the strategy 'none' has no git" in problem for problem in found if "left out" in problem)


def test_a_repo_with_git_needs_its_url_whatever_else_it_has(path: Path) -> None:
    for strategy in ("", "strategy: in-place, "):
        (problem,) = problems(path, f"repos: {{blog: {{{strategy}path: /srv, deploy: [x]}}}}\n")
        assert problem.startswith("gitopsd.yaml:1: repos.blog: 'url' is missing: where to fetch from, ")


def test_commands_alone_may_run_in_one_place_and_in_that_of_a_checkout(path: Path, conf_d: Path) -> None:
    command = {"strategy": "none", "path": "/srv/blog", "deploy": ["x"]}
    (conf_d / "commands.yaml").write_text(yaml.safe_dump({"repos": {"one": command, "two": command}}))

    assert list(load_data(path, {"repos": {"blog": BLOG}}).repos) == ["blog", "one", "two"]
    (found,) = problems(path, yaml.safe_dump({"repos": {"blog": BLOG, "three": command, "shop": BLOG}}))
    assert "repos.shop.path: /srv/blog is the path of repo 'blog' too" in found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gate", ["make", "test"]),
        ("keep", 3),
        ("submodules", True),
        ("depth", 1),
        ("filter", "blob:none"),
        ("rewind", "allow"),
        ("local_changes", "rescue"),
        ("verify", "none"),
        ("allowed_signers", "/etc/gitopsd/allowed_signers"),
        ("keyring", "/etc/gitopsd/keyring.gpg"),
        ("merge_by", ["me"]),
        ("clean", "untracked"),
        ("drift", "report"),
        ("rollback", True),
        ("statuses", {"forge": "github", "token": "token"}),
    ],
)
def test_what_is_about_revisions_is_nothing_for_a_repo_without_git(path: Path, key: str, value: Any) -> None:
    command = {"strategy": "none", "path": "/srv", "deploy": ["x"]}
    (found,) = problems(path, yaml.safe_dump({"repos": {"purge": {**command, key: value}}}))

    assert f"repos.purge.{key}: " in found
    assert found.endswith(" is not right; wanted: left out, as the strategy 'none' has no git")


def test_what_finds_out_whether_a_command_did_its_work_needs_no_git(path: Path) -> None:
    checks = {"health": ["true"], "units": ["blog.service"], "settle": "1s", "compose": "c.yaml", "timeout": "1s"}
    command = {"strategy": "none", "path": "/srv", "deploy": ["x"], "retry": {"tries": 1}, **checks}
    config = load_data(path, {"repos": {"purge": command}})

    assert config.repos["purge"].health == Health(command=("true",))
    assert load_text(path, dump(config)) == config


# Policies, and what becomes of a deploy


def test_a_health_command_stands_alone_or_with_what_there_is_to_say_about_it(path: Path) -> None:
    alone = load_data(path, {"repos": {"blog": {**BLOG, "health": ["curl", "-f", "x"]}}})
    whole = load_data(path, {"repos": {"blog": {**BLOG, "health": {"command": ["curl", "-f", "x"]}}}})

    assert alone == whole
    assert alone.repos["blog"].health == Health(command=("curl", "-f", "x"))


def test_a_repo_tries_again_as_all_do_where_it_does_not_say_otherwise(path: Path) -> None:
    repos = {"blog": {**BLOG, "retry": {"delay": "7s"}}, "shop": {**BLOG, "path": "/srv/shop"}}
    config = load_data(path, {"retry": {"tries": 9, "delay": "1s"}, "repos": repos})

    assert config.repos["blog"].retry == Retry(tries=9, delay_sec=7.0)
    assert config.repos["shop"].retry is None


@pytest.mark.parametrize("text", ["off", '"off"', "no", "false", "report", "repair"])
def test_off_needs_no_quotes_although_yaml_has_another_word_for_it(path: Path, text: str) -> None:
    config = load_text(path, f"repos: {{blog: {{url: x, path: /srv/blog, drift: {text}}}}}\n")

    assert config.repos["blog"].drift == (text if text in ("report", "repair") else "off")
    assert load_text(path, dump(config)) == config


def test_whole_numbers_are_told_without_a_point(path: Path) -> None:
    health = {"command": ["true"], "tries": 2.0}
    repo = load_data(path, {"repos": {"blog": {**BLOG, "keep": 4.0, "depth": 2.0, "health": health}}}).repos["blog"]

    assert repo.health is not None
    assert [str(number) for number in (repo.keep, repo.depth, repo.health.tries)] == ["4", "2", "2"]


@pytest.mark.parametrize(
    ("settings_of_it", "expected"),
    [
        ("verify: ssh", ["repos.blog: 'allowed_signers' is missing: absolute path of the file of ssh keys that may "]),
        ("verify: gpg", ["repos.blog: 'keyring' is missing: absolute path of the file of GPG keys that may sign"]),
        ("verify: x509", ["repos.blog.verify: this text is not right; wanted: the kind of signature that the commit "]),
        (
            "allowed_signers: signers\n    verify: none",
            ["repos.blog.allowed_signers: this text is not right; wanted: absolute path "],
        ),
        (
            "merge_by: []\n    verify: none",
            ["repos.blog.merge_by: a list is not right; wanted: list of signers who may sign merges "],
        ),
        (
            "merge_by: [a b]\n    verify: none",
            ["repos.blog.merge_by.0: this text is not right; wanted: a principal of allowed_signers"],
        ),
        ("health: 5", ["repos.blog.health: a number is not right; wanted: the command that finds out whether "]),
        ("health: curl x", ["repos.blog.health: this text is not right; wanted: the command that finds out whether "]),
        ("health: []", ["repos.blog.health: a list is not right; wanted: the command that finds out whether "]),
        ("health: [5]", ["repos.blog.health.0: a number is not right; wanted: a word of the command, in quotes "]),
        ("health: {}", ["repos.blog.health: 'command' is missing: the command, as a list; 0 is healthy"]),
        ("health: {command: x}", ["repos.blog.health.command: this text is not right; wanted: the command, as a list"]),
        (
            "health: {comand: [x]}",
            [
                "repos.blog.health.comand: unknown key; did you mean 'command'?",
                "repos.blog.health: 'command' is missing: the command, as a list; 0 is healthy",
            ],
        ),
        ("health: {command: [x], tries: 0}", ["repos.blog.health.tries: a number is not right; wanted: how often it "]),
        ("rollback: 3", ["repos.blog.rollback: a number is not right; wanted: true: if deploy, compose, units "]),
        ("keep: 1", ["repos.blog.keep: a number is not right; wanted: how many trees stay with the strategy "]),
        ("gate: make", ["repos.blog.gate: this text is not right; wanted: the command that has to succeed in a tree "]),
        ("units: [blog]", ["repos.blog.units.0: this text is not right; wanted: the whole name of a unit, such as "]),
        ("units: ['a b.service']", ["repos.blog.units.0: this text is not right; wanted: the whole name of a unit, "]),
        ("compose: /srv/c.yaml", ["repos.blog.compose: this text is not right; wanted: a compose file in the "]),
        ("filter: tree", ["repos.blog.filter: this text is not right; wanted: what git leaves out until it is "]),
        ("depth: 0", ["repos.blog.depth: a number is not right; wanted: how many commits of history the first "]),
        ("retry: {tries: 0}", ["repos.blog.retry.tries: a number is not right; wanted: how often a failing deploy "]),
        ("retry: 5", ["repos.blog.retry: a number is not right; wanted: when a failed job of this repo is tried "]),
        ("drift: yes", ["repos.blog.drift: true, false or nothing is not right; wanted: whether polls look for "]),
        ("clean: all", ["repos.blog.clean: this text is not right; wanted: what is taken out of the checkout "]),
        (
            "statuses: {}",
            [
                "repos.blog.statuses: 'forge' is missing: whose interface it is",
                "repos.blog.statuses: 'token' is missing: the name of the credential that holds the token",
            ],
        ),
        (
            "statuses: {forge: github, token: 'gh_p A'}",
            ["repos.blog.statuses.token: this text is not right; wanted: the name of a secret "],
        ),
        (
            "statuses: {forge: gitea, token: t, api: 'https://me:x@h'}",
            ["repos.blog.statuses.api: this text is not right; wanted: the URL of the interface, such as "],
        ),
    ],
)
def test_what_is_wrong_with_a_policy_is_said_with_what_there_should_be(
    path: Path, settings_of_it: str, expected: list[str]
) -> None:
    found = repo_problems(path, settings_of_it)

    assert [
        problem
        for problem, start in zip(found, expected, strict=True)
        if not problem.startswith(("gitopsd.yaml:2: " + start, "gitopsd.yaml:5: " + start))
    ] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", "notify: 'urls' is missing: list of the names of credentials that hold the URLs of Apprise"),
        ("{urls: [Ntfy]}", "notify.urls.0: this text is not right; wanted: the name of a secret "),
        ("{urls: ['ntfy://x']}", "notify.urls.0: this text is not right; wanted: the name of a secret "),
        ("{urls: [a], on: [always]}", "notify.on.0: this text is not right; wanted: failure, recovery, refusal or "),
        ("{urls: [a], on: []}", "notify.on: a list is not right; wanted: list of what is told"),
    ],
)
def test_who_is_told_is_named_by_credentials_and_of_what_by_four_words(path: Path, text: str, expected: str) -> None:
    (found,) = problems(path, f"notify: {text}\n")

    assert found.startswith(f"gitopsd.yaml:1: {expected}")


# Several files


@pytest.fixture
def conf_d(tmp_path: Path) -> Path:
    directory = tmp_path / "conf.d"
    directory.mkdir()
    return directory


def test_files_in_conf_d_add_to_the_main_file(path: Path, conf_d: Path, tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("a", "b")]
    for root in roots:
        root.mkdir()
    (conf_d / "10-shop.yaml").write_text(f"repos: {{shop: {{url: x, path: /srv/shop}}}}\nroots: [{roots[1]}]\n")
    (conf_d / "20-hub.yaml").write_text("receivers: {hub: {provider: github, secrets: [hub]}}\nmax_parallel: 3\n")
    (conf_d / "30-empty.yaml").write_text("")
    (conf_d / "40-not-this.yml").write_text("nonsense: 1\n")
    (conf_d / "50-nor-this.yaml.dpkg-old").write_text("nonsense: 1\n")
    (conf_d / ".60-half-written.yaml").write_text("nonsense: [")
    (conf_d / ".yaml").write_text("nonsense: 1\n")

    config = load_text(path, f"repos: {{blog: {{url: x, path: /srv/blog}}}}\nroots: [{roots[0]}]\n")

    assert list(config.repos) == ["blog", "shop"]
    assert list(config.receivers) == ["hub"]
    assert config.max_parallel == 3
    assert config.roots == tuple(roots)


def test_what_two_files_set_is_a_problem_that_names_both(path: Path, conf_d: Path) -> None:
    (conf_d / "a.yaml").write_text("repos:\n  blog:\n    url: x\n    path: /srv/b\nretry: {tries: 2}\n")
    (conf_d / "b.yaml").write_text("receivers: {hub: {provider: github, secrets: [a]}}\n")
    text = "receivers: {hub: {provider: github, secrets: [a]}}\nretry: {tries: 3}\nrepos: {blog: {url: x, path: /b}}\n"

    assert problems(path, text) == [
        f"conf.d/a.yaml:2: repos.blog: is set in {path} too; keep one",
        f"conf.d/a.yaml:5: retry: is set in {path} too; keep one",
        f"conf.d/b.yaml:1: receivers.hub: is set in {path} too; keep one",
    ]


def test_a_conf_d_that_is_no_directory_is_a_problem_and_hides_no_other(path: Path, tmp_path: Path) -> None:
    (tmp_path / "conf.d").write_text("")

    first, second = problems(path, "max_body: lots\n")

    assert first == "conf.d: cannot be read: Not a directory"
    assert second.startswith("gitopsd.yaml:1: max_body: ")


@pytest.mark.parametrize("mode", [0o000, 0o333, 0o444], ids=["nothing", "enter only", "list only"])
def test_a_conf_d_that_may_not_be_read_is_a_problem(for_nobody: ForNobody, mode: int) -> None:
    path = for_nobody.place / "gitopsd.yaml"
    path.write_text("max_parallel: 3\n")
    (path.parent / "conf.d").mkdir()
    (path.parent / "conf.d" / "a.yaml").write_text("stop_timeout: 1s\n")
    load(path)  # imports what it needs, as long as we may
    (path.parent / "conf.d").chmod(mode)

    with for_nobody.rights():
        (found,) = problems(path)

    place = "conf.d/a.yaml" if mode == 0o444 else "conf.d"
    assert found == f"{place}: cannot be read: Permission denied"


# Problems


def test_all_problems_of_all_files_come_at_once_with_file_line_and_key(path: Path, conf_d: Path) -> None:
    (conf_d / "1-blog.yaml").write_text("repos:\n  blog:\n    url: x\n    path: /srv/other\n")
    (conf_d / "2-broken.yaml").write_text("repos:\n  more: [\n")
    (conf_d / "3-directory.yaml").mkdir()
    (conf_d / "4-latin-1.yaml").write_bytes(b"state_dir: /caf\xe9\n")
    (conf_d / "5-list.yaml").write_text("- blog\n")
    (conf_d / "6-list-as-key.yaml").write_text("\n? [a, b]\n: c\n")
    text = """\
max_paralel: 3
max_body: lots
roots:
  - /nonexistent/root
  - 5
repos:
  blog:
    url: https://me:hunter2@example.org/blog.git
    path: /srv/blog
    timeout: 10m
    timeout: 5m
  shop:
    url: git@example.org:shop.git
    path: /srv/./blog/
  docs:
    url: git@example.org:docs.git
    deploy: ./deploy.sh
  7:
    path: [a]
  Wiki: {url: x, path: /srv/wiki}
  none:
receivers:
  hub:
    provider: githib
    secret: [hub]
retry:
  delays: 3s
"""
    found = problems(path, text)

    expected = [
        "gitopsd.yaml:1: max_paralel: unknown key; did you mean 'max_parallel'?",
        "gitopsd.yaml:2: max_body: this text is not right; wanted: the largest delivery that is read, in bytes ",
        "gitopsd.yaml:5: roots.1: a number is not right; wanted: absolute path of a directory that exists",
        "gitopsd.yaml:8: repos.blog.url: holds credentials before the @; ",
        "gitopsd.yaml:11: repos.blog.timeout: stands here twice; remove one",
        "gitopsd.yaml:14: repos.shop.path: /srv/./blog/ is the path of repo 'blog' too",
        "gitopsd.yaml:15: repos.docs: 'path' is missing: absolute path of the checkout",
        "gitopsd.yaml:17: repos.docs.deploy: this text is not right; wanted: the command that is run ",
        "gitopsd.yaml:18: repos.7: 'url' is missing: where to fetch from, ",
        "gitopsd.yaml:19: repos.7.path: a list is not right; wanted: absolute path of the checkout",
        "gitopsd.yaml:20: repos.Wiki: this text is not right; wanted: a name of lower-case letters, ",
        "gitopsd.yaml:21: repos.none: true, false or nothing is not right; wanted: a mapping with 'path', and 'url' ",
        "gitopsd.yaml:23: receivers.hub: 'secrets' is missing: list of the names of the secrets ",
        "gitopsd.yaml:24: receivers.hub.provider: this text is not right; wanted: who sends to this ",
        "gitopsd.yaml:25: receivers.hub.secret: unknown key; did you mean 'secrets'?",
        "gitopsd.yaml:27: retry.delays: unknown key; did you mean 'delay'?",
        f"conf.d/1-blog.yaml:2: repos.blog: is set in {path} too; keep one",
        "conf.d/2-broken.yaml:3: not YAML: expected the node content, but found '<stream end>'",
        "conf.d/3-directory.yaml: cannot be read: Is a directory",
        "conf.d/4-latin-1.yaml: not YAML: it is not UTF-8, or has control characters",
        "conf.d/5-list.yaml:1: must be a mapping such as 'repos: …'",
        "conf.d/6-list-as-key.yaml:2: a key must be a word",
    ]
    assert [start for start in expected if not any(problem.startswith(start) for problem in found)] == []
    assert [problem for problem in found if not problem.startswith(tuple(expected))] == []
    assert len(found) == len(expected)
    assert "hunter2" not in "".join(found)


def test_the_error_reads_as_its_first_problem_and_the_number_of_the_others(path: Path) -> None:
    path.write_text("a: 1\nb: 2\nc: 3\n")

    with pytest.raises(ConfigError) as caught:
        load(path)

    assert str(caught.value) == f"{caught.value.problems[0]} (and 2 more: gitopsd check)"
    assert str(ConfigError(["only this"])) == "only this"


def test_a_file_that_is_not_there_says_how_to_name_another_and_hides_no_other_problem(path: Path, conf_d: Path) -> None:
    (conf_d / "a.yaml").write_text("a: 1\n")

    missing, other = problems(path)

    assert missing == "gitopsd.yaml: there is no such file; write one, or name another with --config or GITOPSD_CONFIG"
    assert other.startswith("conf.d/a.yaml:1: a: unknown key; known here: state_dir, runner, ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("1: 2\n", "gitopsd.yaml:1: 1: unknown key; known here: ", id="a number"),
        pytest.param("repos: {}\ntrue: 2\n", "gitopsd.yaml:2: true: unknown key; ", id="a boolean"),
        pytest.param("2024-01-01: 2\n", "gitopsd.yaml:1: 2024-01-01: unknown key; known here: ", id="a date"),
        pytest.param("~: 2\n", "gitopsd.yaml:1: ~: unknown key; known here: ", id="null"),
        pytest.param("{a: 1}: 2\n", "gitopsd.yaml:1: a key must be a word", id="a mapping"),
    ],
)
def test_a_key_that_is_no_text_is_named_as_it_is_written(path: Path, text: str, problem: str) -> None:
    (found,) = problems(path, text)

    assert found.startswith(problem)


def test_keys_that_look_like_numbers_are_names(path: Path) -> None:
    config = load_text(
        path, "repos:\n  2048: {url: x, path: /a}\n  1e3: {url: x, path: /b}\n  0x1: {url: x, path: /c}\n"
    )

    assert list(config.repos) == ["2048", "1e3", "0x1"]


def test_a_key_twice_is_a_problem_however_it_is_spelt(path: Path) -> None:
    (found,) = problems(path, 'repos:\n  blog: {url: x, path: /a}\n  "blog": {url: x, path: /b}\n')

    assert found == "gitopsd.yaml:3: repos.blog: stands here twice; remove one"


def test_yaml_anchors_and_merges_work(path: Path) -> None:
    text = "repos:\n  blog: &all {url: x, path: /a, timeout: 5s}\n  shop: {<<: *all, path: /b}\n"

    config = load_text(path, text)

    assert [(repo.url, str(repo.path), repo.timeout_sec) for repo in config.repos.values()] == [
        ("x", "/a", 5.0),
        ("x", "/b", 5.0),
    ]


@pytest.mark.parametrize(
    "url",
    [
        "https://hunter2@example.org/blog.git",
        "http://hunter2@[::1]:8080/blog.git",
        "HTTPS://hunter2:@example.org",
        "https://me:hunter2@example.org/blog.git",
        "https://:hunter2@example.org/blog.git",
        "ssh://git:hunter2@example.org/blog.git",
        "HTTPS://me:hunter2@example.org",
    ],
)
def test_credentials_in_a_url_are_a_problem_and_are_not_shown(path: Path, url: str) -> None:
    (found,) = problems(path, yaml.safe_dump({"repos": {"blog": {**BLOG, "url": url}}}))

    assert has_credentials(url)
    assert "repos.blog.url: holds credentials before the @; " in found
    assert "hunter2" not in found


@pytest.mark.parametrize(
    "url",
    [
        "git@github.com:me/blog.git",
        "https://example.org:8443/me/blog.git",
        "https://example.org/@me/blog.git",
        "ssh://me@example.org/blog.git",
        "ssh://git@[::1]:2222/me/blog.git",
        "https://[broken/blog.git",
        "/srv/git/blog.git",
        "file:///srv/git/a:b@c.git",
    ],
)
def test_a_url_without_credentials_is_taken_as_it_is(path: Path, url: str) -> None:
    assert not has_credentials(url)
    assert load_data(path, {"repos": {"blog": {**BLOG, "url": url}}}).repos["blog"].url == url


@pytest.mark.parametrize("spelling", ["/srv/blog", "/srv/blog/", "/srv/./blog", "/srv/x/../blog", "//srv/blog"])
def test_two_repos_with_one_path_are_a_problem_across_files_too(path: Path, conf_d: Path, spelling: str) -> None:
    (conf_d / "shop.yaml").write_text(yaml.safe_dump({"repos": {"shop": {**BLOG, "path": spelling}}}))

    (found,) = problems(path, yaml.safe_dump({"repos": {"blog": BLOG}}))

    assert found == f"conf.d/shop.yaml:3: repos.shop.path: {spelling} is the path of repo 'blog' too"


def test_two_repos_whose_paths_are_one_directory_by_a_symbolic_link_are_a_problem(path: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    repos = {name: {**BLOG, "path": str(tmp_path / name)} for name in ("real", "link")}

    assert len(problems(path, yaml.safe_dump({"repos": repos}))) == 1


@pytest.mark.parametrize("value", ["/", "//", "/.", "/srv/.."])
def test_a_symlink_needs_a_name(path: Path, value: str) -> None:
    (found,) = problems(path, yaml.safe_dump({"repos": {"blog": {**BLOG, "strategy": "release", "path": value}}}))

    assert found.endswith(f"repos.blog.path: {value} can be no symlink; take one such as /srv/blog/current")
    assert load_data(path, {"repos": {"blog": {**BLOG, "path": value}}}).repos["blog"].path == Path(value)


@pytest.mark.parametrize("spelling", ["/current", "/current/", "/./current", "/../site/current", "-link/current"])
@pytest.mark.parametrize("strategy", ["in-place", "release"])
def test_a_symlink_is_the_same_place_wherever_it_leads_to(
    path: Path, tmp_path: Path, spelling: str, strategy: str
) -> None:
    site = tmp_path / "site"
    (site / ".current.releases" / "1").mkdir(parents=True)
    (site / "current").symlink_to(".current.releases/1")
    (tmp_path / "site-link").symlink_to("site")
    one = {**BLOG, "strategy": "release", "path": f"{site}/current"}
    other = {**BLOG, "strategy": strategy, "path": f"{site}{spelling}"}

    for repos in ({"one": one, "other": other}, {"other": other, "one": one}):
        found = problems(path, yaml.safe_dump({"repos": repos}, sort_keys=False))
        assert "is the path of repo" in found[0]


@pytest.mark.parametrize("below", ["", "/1", "/../.current.releases/1/docs"])
@pytest.mark.parametrize("strategy", ["in-place", "release"])
def test_no_repo_stands_among_the_releases_of_another(path: Path, conf_d: Path, strategy: str, below: str) -> None:
    inner = f"/srv/site/.current.releases{below}"
    (conf_d / "docs.yaml").write_text(
        yaml.safe_dump({"repos": {"docs": {**BLOG, "strategy": strategy, "path": inner}}})
    )

    (found,) = problems(
        path, yaml.safe_dump({"repos": {"site": {**BLOG, "strategy": "release", "path": "/srv/site/current"}}})
    )

    where = "/srv/site/.current.releases, where the releases of repo 'site' are"
    assert found == f"conf.d/docs.yaml:3: repos.docs.path: {inner} is in {where}"


def test_repos_side_by_side_do_not_get_into_each_others_way(path: Path) -> None:
    paths = ("/srv/site/current", "/srv/site/next", "/srv/site/.current.releases2", "/srv/site")
    release = {**BLOG, "strategy": "release"}
    repos = {f"site{n}": {**release, "path": each} for n, each in enumerate(paths)}
    command = {"strategy": "none", "deploy": ["x"], "path": "/srv/site/.current.releases"}

    assert len(load_data(path, {"repos": {**repos, "command": command}}).repos) == 5


@pytest.mark.parametrize("name", ["Blog", "-blog", ".blog", "my blog", "a/b", "..", "", "b" * 64, "blog\n", "blög"])
def test_a_name_that_no_file_or_unit_should_have_is_a_problem(path: Path, name: str) -> None:
    for section in ({"repos": {name: BLOG}}, {"receivers": {name: {"provider": "github", "secrets": ["a"]}}}):
        (found,) = problems(path, yaml.safe_dump(section))
        assert "wanted: a name of lower-case letters" in found


@pytest.mark.parametrize(
    "value", ["", "relative/path", "~/blog", "/srv/a\0b"], ids=["empty", "relative", "home", "zero byte"]
)
def test_a_path_that_is_not_absolute_is_a_problem(path: Path, value: str) -> None:
    assert len(problems(path, yaml.safe_dump({"repos": {"blog": {**BLOG, "path": value}}}))) == 1
    assert len(problems(path, yaml.safe_dump({"state_dir": value}))) == 1


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('max_parallel: !!int ""', id="an integer of nothing"),
        pytest.param('max_parallel: !!float ""', id="a number of nothing"),
        pytest.param("max_parallel: !!bool perhaps", id="a strange boolean"),
        pytest.param("max_parallel: !!timestamp never", id="a strange time"),
        pytest.param("max_parallel: 2024-13-45", id="a date that is none"),
        pytest.param("max_parallel: !!python/name:os.system x", id="a Python object"),
        pytest.param("max_parallel: 0x" + "f" * 5000, id="a number of more digits than Python writes"),
        pytest.param("max_parallel: " + "9" * 5000, id="a number of more digits than Python reads"),
        pytest.param("max_parallel: .inf", id="infinity"),
        pytest.param("max_parallel: .nan", id="not a number"),
        pytest.param(f"max_body: '{'9' * 5000}'", id="a size of more digits than Python reads"),
        pytest.param(f"stop_timeout: {'9' * 400}d", id="longer than a float holds"),
        pytest.param(f"stop_timeout: {'9' * 5000}s", id="a duration of more digits than Python reads"),
        pytest.param("repos: &all [*all]", id="a list that holds itself"),
        pytest.param("repos: &all {blog: *all}", id="a mapping that holds itself"),
        pytest.param("repos: " + "[" * 2000 + "]" * 2000, id="nested deeply"),
        pytest.param("a: 1\n---\nb: 2\n", id="two documents"),
        pytest.param("a: *nothing", id="an unknown alias"),
        pytest.param("a: \x01", id="a control character"),
        pytest.param("a: b: c", id="a colon too many"),
        pytest.param("\ta: 1", id="a tab"),
        pytest.param("%YAML 9.9\n---\na: 1", id="YAML of the future"),
        pytest.param("just a text", id="a text"),
    ],
)
def test_broken_or_strange_yaml_is_a_problem_of_that_file(path: Path, text: str) -> None:
    found = problems(path, text)

    assert found
    assert all(problem.startswith("gitopsd.yaml:") and "\n" not in problem for problem in found)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("s3cret!", "this text"),
        (47110815, "a number"),
        (4711.0815, "a number"),
        (["s3cret!", "s3cret!"], "this text"),
        ({"s3cret!": "s3cret!"}, "a mapping"),
        (True, "true, false or nothing"),
        (None, "true, false or nothing"),
        (datetime.date(4711, 8, 15), "this value"),
    ],
)
def test_a_value_is_never_shown_as_it_may_be_a_secret(path: Path, value: Any, kind: str) -> None:
    secrets = value if isinstance(value, list) else [value]
    found = problems(path, yaml.safe_dump({"receivers": {"hub": {"provider": "github", "secrets": secrets}}}))

    assert found
    assert not [problem for problem in found if "s3cret" in problem or "4711" in problem]
    assert [problem for problem in found if f" {kind} is not right; wanted: " in problem]


# The schema is the one truth


def schema_keys(
    part: Mapping[str, Any], where: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every key that a file can hold, with its schema; NAME stands for a name that the file chooses."""
    definitions = schema()["$defs"]
    if "$ref" in part:
        part = {**definitions[part["$ref"].rpartition("/")[2]], **part}
    for key, value in part.get("properties", {}).items():
        yield (*where, key), value
        yield from schema_keys(value, (*where, key))
    if isinstance(part.get("additionalProperties"), dict):
        yield from schema_keys(part["additionalProperties"], (*where, "NAME"))


KEYS = dict(schema_keys(schema()))
SURROUNDINGS = {
    "proxy": {"trusted": ["unix"], "header": "X-Real-IP"},
    "notify": {"urls": ["ntfy-url"]},
    "repos": {"name": {"url": "x", "path": "/srv/name"}},
    "receivers": {"name": {"provider": "github", "secrets": ["name"]}},
}
SURROUNDINGS_WITHIN: dict[str, dict[str, Any]] = {
    "health": {"command": ["true"]},
    "statuses": {"forge": "github", "token": "token"},
}


def with_value(key: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The smallest valid configuration that holds `value` at `key`."""
    data: dict[str, Any] = json.loads(json.dumps({key[0]: SURROUNDINGS.get(key[0], {})}))
    part = part_at(data, key)
    if key == ("receivers", "NAME", "header"):
        part["provider"] = "generic-hmac"  # the others do not let a sender choose
    part[key[-1]] = value
    return data


def part_at(data: dict[str, Any], key: tuple[str, ...]) -> dict[str, Any]:
    """The mapping of `data` in which `key` stands; what such a mapping needs is put into it."""
    for step in key[:-1]:
        data = data.setdefault(step.replace("NAME", "name"), {**SURROUNDINGS_WITHIN.get(step, {})})
    return data


def test_the_schema_is_one() -> None:
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    Draft202012Validator.check_schema(schema())
    assert len(KEYS) > 25


@pytest.mark.parametrize("key", KEYS, ids=".".join)
def test_every_key_is_described_and_its_examples_are_accepted(path: Path, tmp_path: Path, key: tuple[str, ...]) -> None:
    assert len(KEYS[key]["description"]) > 10
    assert KEYS[key]["examples"]
    for value in KEYS[key]["examples"]:
        data = with_value(key, [str(tmp_path) for _ in value] if key == ("roots",) else value)
        if key[-1] in ("allowed_signers", "keyring", "merge_by"):
            part_at(data, key)["verify"] = "none"
        config = load_data(path, data)
        assert load_text(path, dump(config)) == config


@pytest.mark.parametrize("key", [key for key in KEYS if "default" in KEYS[key]], ids=".".join)
def test_the_default_that_the_schema_names_is_the_one_that_is_taken(path: Path, key: tuple[str, ...]) -> None:
    without = with_value(key, None)
    del part_at(without, key)[key[-1]]

    assert load_data(path, with_value(key, KEYS[key]["default"])) == load_data(path, without)


@pytest.mark.parametrize("key", [key for key in KEYS if "integer" in KEYS[key].get("type", "")], ids=".".join)
def test_a_whole_number_is_one_with_a_point_in_it_too(path: Path, key: tuple[str, ...]) -> None:
    number = next(each for each in KEYS[key]["examples"] if isinstance(each, int))

    with_point = load_data(path, with_value(key, float(number)))

    assert repr(with_point) == repr(load_data(path, with_value(key, number)))  # to Python 3.0 is 3, too


def test_every_setting_of_the_program_has_a_key() -> None:
    def settings_of(kind: Any, prefix: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
        renamed = {"log_bytes": "log_size"}
        return {(*prefix, renamed.get(name, name.removesuffix("_sec"))) for name in kind._fields}

    ours = settings_of(Config) | settings_of(Retry, ("retry",)) | settings_of(Keep, ("keep",))
    ours |= settings_of(Repo, ("repos", "NAME")) | settings_of(Receiver, ("receivers", "NAME"))
    ours |= settings_of(Limits, ("limits",)) | settings_of(Proxy, ("proxy",)) | settings_of(Notify, ("notify",))
    for name, kind in (("health", Health), ("retry", Retry), ("statuses", Statuses)):
        ours |= settings_of(kind, ("repos", "NAME", name))

    not_configured = {("source",), ("repos", "NAME", "name"), ("receivers", "NAME", "name")}
    assert ours - not_configured - {("repos", "NAME", "opted_in_by_file")} == set(KEYS)


def test_the_providers_of_the_schema_are_those_that_there_are() -> None:
    assert KEYS["receivers", "NAME", "provider"]["enum"] == list(PROVIDERS)
    with_header = schema()["$defs"]["receiver"]["then"]["properties"]["provider"]["enum"]
    assert with_header == [name for name, provider in PROVIDERS.items() if provider.own_header]
    assert DEFAULT_RECEIVER.provider in PROVIDERS


# Anything at all

_SCALARS = (
    some.none()
    | some.booleans()
    | some.integers()
    | some.floats()
    | some.text()
    | some.binary(max_size=5)
    | some.dates()
    | some.datetimes()
    | some.sampled_from(
        ["/", "/srv/x", "main", "1s", "1m\n", "0K", "25M\n", "a-b", "github", "https://a:b@c", "//", "\0"]
    )
    | some.builds(
        "{}{}{}".format, some.integers(0, 10**30), some.sampled_from("smhdKMG"), some.sampled_from(["", "\n"])
    )
)
_NAMES = some.sampled_from(sorted({step for key in KEYS for step in key})) | some.text(max_size=8) | some.integers()
VALUES = some.recursive(
    _SCALARS, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(_NAMES, inner, max_size=4), max_leaves=8
)


def load_or_refuse(text: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "gitopsd.yaml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            load(path)
            return
        except ConfigError as error:
            found = error.problems
        assert found
        assert all(problem.startswith(f"{path}:") for problem in found)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(key=some.sampled_from(sorted(KEYS)), value=VALUES)
@example(key=("max_body",), value=25.0)
@example(key=("stop_timeout",), value="10m\n")
@example(key=("keep", "log_size"), value=datetime.date(2024, 1, 1))
def test_any_value_of_any_key_gives_a_configuration_or_its_problems(key: tuple[str, ...], value: Any) -> None:
    load_or_refuse(yaml.safe_dump(with_value(key, value)))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_any_value_as_a_whole_file_gives_a_configuration_or_its_problems(value: Any) -> None:
    load_or_refuse(yaml.safe_dump(value))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(some.lists(some.sampled_from([*"{}[]:,-?&*!|>'\"%@#~ \n\t\0a1.", "repos", ": ", "\n  ", "<<", "!!int ", "&a "])))
def test_any_text_gives_a_configuration_or_its_problems(words: list[str]) -> None:
    load_or_refuse("".join(words))


def test_two_repos_that_compose_would_take_for_one_are_a_problem(path: Path) -> None:
    repos = {name: {"url": f"/srv/{name}.git", "path": f"/srv/{name}", "compose": "c.yaml"} for name in ("a.b", "a-b")}
    (problem,) = problems(path, yaml.safe_dump({"repos": repos}, sort_keys=False))
    assert "repo 'a.b' is the project 'a-b' of docker compose too" in problem
    del repos["a-b"]["compose"]
    path.write_text(yaml.safe_dump({"repos": repos}))
    assert load(path).repos["a.b"].compose == "c.yaml"


@pytest.mark.parametrize("signers", ["allowed_signers: /etc/x", "keyring: /etc/x", "merge_by: [forge]"])
def test_signers_whom_nobody_asks_for_are_a_problem(path: Path, signers: str) -> None:
    (problem,) = repo_problems(path, signers)
    assert "does nothing without 'verify'" in problem


def test_a_long_time_is_the_same_after_it_was_written_out(path: Path) -> None:
    config = load_text(path, "repos:\n  blog: {url: /srv/blog.git, path: /srv/blog, timeout: 30d, settle: 1500ms}\n")
    assert load_text(path, dump(config)) == config
