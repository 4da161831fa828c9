"""Trouble from outside the configured path: it is said, it stays where it is, and what it is not about goes on."""

import contextlib
import json
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from gitopsd import lock
from gitopsd.store import path_in
from tests.remote import Remote, git
from tests.site import WAIT_SEC, Answer, Site, wait_for
from tests.terminal import on_a_terminal

ENGINE = Path(__file__).parents[2] / "scripts" / "gitops_sync.sh"
SECRET_AS_NAME = "Hunter2-TheRealSecret"

# In a deploy: the `gitopsd run` that it belongs to is the parent of the engine's group leader.
FIND_RUN = 'group=$(cut -d" " -f5 /proc/$$/stat); run=$(cut -d" " -f4 "/proc/$group/stat")'


@pytest.fixture
def neighbours(tmp_path: Path) -> Iterator[tuple[Site, Site]]:
    """Two installations on one host."""
    sites = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        sites.append(Site(tmp_path / name))
    try:
        yield sites[0], sites[1]
    finally:
        for site in sites:
            site.close()


# Other installations, stray files


def test_two_daemons_with_state_directories_of_their_own_do_not_disturb_each_other(
    neighbours: tuple[Site, Site],
) -> None:
    tips = {}
    for site in neighbours:
        remote = site.add_repo("blog", deploy=f"touch ../begun; {gated(site)}")
        site.start()
        tips[site.root] = remote.push()
        assert site.deliver("blog", tips[site.root]).status == 202
    for site in neighbours:
        wait_for((site.checkout("blog").parent / "begun").exists, "both deploys at once, of the same name")

    one, two = neighbours
    one.kill_everything()
    open_gate(two)
    assert two.wait_for_job("blog", "succeeded")["new_revision"] == tips[two.root]
    open_gate(one)
    one.start()

    assert one.wait_for_job("blog", "succeeded")["new_revision"] == tips[one.root]
    for site in neighbours:
        assert site.deployed("blog") == tips[site.root]
        assert site.get("/readyz").status == 200
    assert [job["state"] for job in two.jobs("blog")] == ["succeeded"]


def test_a_conf_d_anywhere_but_beside_the_configuration_changes_nothing(site: Site) -> None:
    remote = site.add_repo("blog", deploy="true")
    checkouts = site.checkout("blog").parent
    for place in (site.state_dir, site.state_dir / "locks", site.state_dir / "logs", site.root / "run", checkouts):
        (place / "conf.d").mkdir(parents=True)
        (place / "conf.d" / "stray.yaml").write_text("colour: red\nrepos: {blog: {url: /nowhere, path: /nowhere}}\n")
    site.start()
    revision = remote.push()

    assert site.deliver("blog", revision).status == 202

    assert site.wait_for_job("blog", "succeeded")["new_revision"] == revision
    assert [repo["name"] for repo in site.json("status")["repos"]] == ["blog"]
    assert site.run("sync", "blog").returncode == 0
    assert {job["state"] for job in site.jobs("blog")} == {"succeeded", "unchanged"}
    assert "colour" not in site.log()


def test_a_conf_d_entry_that_leads_nowhere_is_a_problem_with_its_path(site: Site) -> None:
    site.add_repo("blog")
    entry = site.root / "conf.d" / "x.yaml"
    entry.parent.mkdir()
    entry.symlink_to(site.root / "nowhere")
    site.start()

    answer, ready, check = site.deliver("blog", "1" * 40), site.get("/readyz"), site.run("check", "--json")

    assert (answer.status, ready.status, check.returncode) == (503, 503, 78)
    assert str(entry) in ready.payload["error"]
    (finding,) = json.loads(check.stdout)["findings"]
    assert finding["problem"].startswith(f"{entry}: ")
    assert "Traceback" not in site.log() + check.stderr
    assert "fault" not in ready.payload["error"] + check.stdout
    entry.unlink()
    site.signal(signal.SIGHUP)
    wait_for(lambda: site.get("/readyz").status == 200, "the mended configuration")


# The store is moved away


@pytest.mark.parametrize("asked", [False, True], ids=["then a delivery", "then a status, then a delivery"])
def test_after_the_store_is_moved_away_the_next_delivery_is_deployed(site: Site, asked: bool) -> None:
    remote = site.add_repo("blog", deploy="true")
    site.start()
    site.deliver("blog", remote.push())
    site.wait_for_job("blog", "succeeded")
    site.wait_until_settled("blog")
    move_store(site, "")  # without its -wal and -shm: so does who does not know of them
    if asked:  # it may be the first to make the new one
        assert site.run("status").returncode == 0
    revision = remote.push()

    assert site.deliver("blog", revision).status == 202

    assert site.wait_for_job("blog", "succeeded")["new_revision"] == revision
    assert site.deployed("blog") == revision
    assert [job["id"] for job in site.jobs("blog")] == [1]  # in a store of its own
    assert wait_for(lambda: site.get("/readyz").status == 200, "readyz")
    assert "Traceback" not in site.log()
    assert "fault" not in site.log()


def test_a_sync_whose_store_is_moved_away_does_not_end_the_job_of_another(site: Site) -> None:
    blog = site.add_repo("blog", deploy=f"touch ../blog-runs; {gated(site, 'blog')}")
    shop = site.add_repo("shop", deploy=f"touch ../shop-runs; {gated(site, 'shop')}")
    checkouts = site.checkout("blog").parent
    site.start()
    site.deliver("blog", blog.push())
    wait_for((checkouts / "blog-runs").exists, "the deploy of blog")
    move_store(site, "", "-wal", "-shm")
    site.deliver("shop", shop.push())
    wait_for((checkouts / "shop-runs").exists, "the deploy of shop")

    open_gate(site, "blog")  # as job 1 of the old store; in the new one that is shop's
    wait_for(lambda: lock.is_free(site.state_dir, "blog"), "the end of blog's sync")

    assert [job["state"] for job in site.jobs("shop")] == ["running"]
    open_gate(site, "shop")
    assert site.wait_for_job("shop", "succeeded")["new_revision"] == shop.tip()
    assert "a fault in gitopsd" not in site.log()


# Roots


def test_a_root_that_is_not_there_is_said_and_served_once_it_is(site: Site) -> None:
    blog, root = site.add_repo("blog", deploy="true"), site.root / "mount"
    wiki = add_below_root(site, root, "wiki", clone_it=False)
    site.start()

    assert site.deliver("wiki", wiki.tip()).status == 200
    assert site.deliver("blog", blog.push()).status == 202
    site.wait_for_job("blog", "succeeded")
    assert_says(site, str(root))
    clone(root, "wiki", wiki)
    revision = wiki.push()
    accepted = site.deliver("wiki", revision)

    assert accepted.status == 202
    assert site.wait_for_job("wiki", "succeeded")["new_revision"] == revision
    assert site.json("status")["problems"] == []
    assert site.run("check").returncode == 0


def test_a_root_that_vanishes_takes_nothing_else_along_and_is_served_when_it_is_back(site: Site) -> None:
    blog, root = site.add_repo("blog", deploy="true"), site.root / "mount"
    wiki = add_below_root(site, root, "wiki")
    site.start()
    root.rename(site.root / "unmounted")

    assert site.deliver("wiki", wiki.push()).status == 202  # known, so its push is not dropped
    assert site.wait_for_job("wiki", "refused")["new_revision"] is None
    assert site.deliver("unheard-of", "1" * 40).status == 200  # has the daemon look again
    assert site.deliver("blog", blog.push()).status == 202
    assert site.wait_for_job("blog", "succeeded")["new_revision"] == blog.tip()
    assert_says(site, str(root))
    assert not root.exists()
    (site.root / "unmounted").rename(root)
    revision = wiki.push()

    assert site.deliver("wiki", revision).status == 202
    assert site.wait_for_job("wiki", "succeeded")["new_revision"] == revision
    assert git(root / "wiki", "rev-parse", "HEAD") == revision
    assert site.json("status")["problems"] == []


def test_the_reason_of_a_push_for_a_vanished_root_names_the_root(site: Site) -> None:
    root = site.root / "mount"
    wiki = add_below_root(site, root, "wiki")
    site.start()
    root.rename(site.root / "unmounted")
    site.deliver("wiki", wiki.push())
    assert str(root) in site.wait_for_job("wiki", "refused")["reason"]


def test_a_detached_checkout_below_a_root_gets_its_pushes_refused_and_not_dropped(site: Site) -> None:
    root = site.root / "roots"
    wiki = add_below_root(site, root, "wiki")
    site.start()
    git(root / "wiki", "checkout", "--quiet", "--detach")
    before = git(root / "wiki", "rev-parse", "HEAD")

    for count in (1, 2):
        assert site.deliver("wiki", wiki.push()).status == 202
        assert "not on a branch" in site.wait_for_job("wiki", "refused", count=count)["reason"]
        # A look for new checkouts now finds it unfit.
        unrelated = site.deliver("unheard-of", "1" * 40)
        assert (unrelated.status, unrelated.payload["reason"]) == (200, "no repo is configured for demo/unheard-of")
    assert git(root / "wiki", "rev-parse", "HEAD") == before
    assert any("not on a branch" in problem for problem in site.json("status")["problems"])
    git(root / "wiki", "checkout", "--quiet", "main")
    revision = wiki.push()

    assert site.deliver("wiki", revision).status == 202
    assert site.wait_for_job("wiki", "succeeded")["new_revision"] == revision
    assert git(root / "wiki", "symbolic-ref", "HEAD") == "refs/heads/main"


def test_a_reload_does_not_drop_a_detached_checkout_either(site: Site) -> None:
    root = site.root / "roots"
    wiki = add_below_root(site, root, "wiki")
    site.start()
    git(root / "wiki", "checkout", "--quiet", "--detach")
    reload(site)

    assert site.deliver("wiki", wiki.push()).status == 202

    assert "not on a branch" in site.wait_for_job("wiki", "refused")["reason"]


# Syncs that die, hang, or cannot be locked


def test_a_deploy_that_kills_its_own_sync_is_tried_later_and_later_and_is_in_nobodys_way(site: Site) -> None:
    site.settings["retry"] = {"delay": "200ms", "max_delay": "500ms"}
    blog = site.add_repo("blog", deploy=f'{FIND_RUN}; echo run >> ../runs; kill -9 "$run" "-$group"')
    shop = site.add_repo("shop", deploy="true")
    site.start()
    site.deliver("blog", blog.push())
    site.wait_for_job("blog", "interrupted", count=2)

    site.deliver("shop", shop.push())

    assert site.wait_for_job("shop", "succeeded")["new_revision"] == shop.tip()
    site.wait_for_job("blog", "interrupted", count=4)
    jobs = site.jobs("blog")[:5]
    assert {job["state"] for job in jobs[:4]} == {"interrupted"}
    assert all("interrupted during deploy" in job["reason"] for job in jobs[:4])
    assert [job["due_at"] - job["created_at"] for job in jobs] == pytest.approx([0.0, 0.0, 0.2, 0.4, 0.5], abs=0.09)
    assert all(job["started_at"] >= job["due_at"] for job in jobs[:4])
    assert all(later["retry_of"] == earlier["id"] for earlier, later in pairwise(jobs))
    # No hot loop: after a sync that ended badly there is a second of rest, whatever its delay was.
    assert all(later["started_at"] - earlier["started_at"] > 0.9 for earlier, later in pairwise(jobs[:4]))
    runs = (site.checkout("blog").parent / "runs").read_text()
    assert runs.count("run") == len([job for job in site.jobs("blog") if job["started_at"]])
    assert site.get("/readyz").status == 200


def test_an_engine_that_hangs_and_has_lost_its_sync_is_ended_by_its_own_limit(site: Site) -> None:
    engine, once, gate = site.root / "engine", site.root / "once", site.root / "gate"
    # Its `sleep` holds the lock too: all of the group has to go.
    hang = f'touch "{once}"; set -- $(cat /proc/$PPID/stat); kill -9 $4; sleep 1000'
    engine.write_text(
        f'#!/bin/sh\n[ -e "{once}" ] || {{ {hang}; }}\n[ -e "{gate}" ] || exit 75\nexec "{ENGINE}" "$@"\n'
    )
    engine.chmod(0o755)
    site.settings["engine"] = str(engine)
    remote = site.add_repo("blog", timeout="1s")
    site.start()
    revision = remote.push()
    site.deliver("blog", revision)
    wait_for(once.exists, "the engine")
    wait_for(lambda: not sync_processes(site), "the end of its sync")
    assert not lock.is_free(site.state_dir, "blog")
    assert [job["state"] for job in site.jobs("blog")] == ["running"]
    gate.touch()

    wait_for(lambda: lock.is_free(site.state_dir, "blog"), "the limit of the engine")
    site.signal(signal.SIGHUP)  # has the dispatcher look now; it would within five seconds

    site.wait_for_job("blog", "succeeded")
    first, second = site.jobs("blog")[:2]
    assert first["state"] == "interrupted"
    assert 9.0 < first["finished_at"] - first["started_at"] < 20.0
    assert second["retry_of"] == first["id"]
    assert round(second["due_at"] - second["created_at"], 1) == 0.0
    assert site.deployed("blog") == revision


def test_a_lock_that_cannot_be_opened_is_said_and_keeps_no_other_repo_back(site: Site) -> None:
    trouble = site.state_dir / "locks" / "aaa.lock"
    trouble.mkdir(parents=True)
    aaa, blog = site.add_repo("aaa", deploy="true"), site.add_repo("blog", deploy="true")
    site.start()

    assert site.deliver("aaa", aaa.push()).status == 202
    assert site.deliver("blog", blog.push()).status == 202

    assert site.wait_for_job("blog", "succeeded")["new_revision"] == blog.tip()
    ready = wait_for(lambda: (found := site.get("/readyz")).status == 503 and found, "readyz to say so")
    assert str(trouble) in ready.payload["error"]
    assert [job["state"] for job in site.jobs("aaa")] == ["pending"]
    assert site.log().count(str(trouble)) == 1
    assert "Traceback" not in site.log()
    trouble.rmdir()
    site.signal(signal.SIGHUP)
    assert site.wait_for_job("aaa", "succeeded")["new_revision"] == aaa.tip()
    wait_for(lambda: site.get("/readyz").status == 200, "readyz to be well again")


# Secrets and terminals


@pytest.mark.parametrize(
    "written",
    [
        f'"{SECRET_AS_NAME}!"',
        f"!{SECRET_AS_NAME}",
        f"*{SECRET_AS_NAME}",
        f"!!int {SECRET_AS_NAME}",
    ],
    ids=["quoted", "as a tag", "as an alias", "as a number"],
)
def test_a_secret_that_stands_where_its_name_belongs_is_never_echoed(site: Site, written: str) -> None:
    site.add_repo("blog")
    site.config_path.write_text(
        f"{site.config_path.read_text()}receivers: {{default: {{provider: github, secrets: [{written} ]}}}}\n"
    )
    site.start()

    answers = [site.deliver("blog", "1" * 40), site.get("/readyz"), site.get("/healthz")]
    commands = [site.run(*words) for words in (("check",), ("status",))]

    assert [answer.status for answer in answers] == [503, 503, 200]
    assert [done.returncode for done in commands] == [78, 78]
    said = [site.log(), *(text_of(answer) for answer in answers), *(done.stdout + done.stderr for done in commands)]
    assert not [text for text in said if SECRET_AS_NAME in text]
    assert f"{site.config_path}" in text_of(answers[1])
    assert "Traceback" not in "".join(said)


def test_logs_steer_no_terminal_and_go_into_a_pipe_as_they_are(site: Site) -> None:
    site.add_repo("blog", deploy=r"printf '\033]0;owned\007\033[2Jred\033[0m\r\302\233 caf\303\251 \377\n'")
    wrote = b"\x1b]0;owned\x07\x1b[2Jred\x1b[0m\r\xc2\x9b caf\xc3\xa9 \xff\n"
    assert site.run("sync", "blog").returncode == 0

    piped = subprocess.run(
        site.command("logs", "blog"), env=site.environment, stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    shown = on_a_terminal(site, "logs", "blog")

    assert wrote in piped.stdout
    assert piped.stdout == next(site.state_dir.glob("logs/blog/*.log")).read_bytes()
    assert "owned" in shown
    assert "café" in shown
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)
    assert shown.replace("\r\n", "").count("\r") == 0


# max_parallel, whoever starts the syncs


def test_a_sync_of_everything_that_is_not_waited_for_starts_max_parallel_and_the_daemon_the_rest(site: Site) -> None:
    names = ("a", "b", "c", "d")
    for name in names:
        site.add_repo(name, deploy=f"touch ../{name}-runs; {gated(site)}")
    begun = begun_in(site, names)

    done = site.run("sync", "--all", "--no-wait")

    assert done.returncode == 0
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == list(names)
    wait_for(lambda: len(begun()) == 2, "two syncs at once")
    assert len(sync_processes(site)) == 2  # and no more that only wait for a moment
    states = [site.jobs(name)[-1]["state"] for name in names]
    assert sorted(states) == ["pending", "pending", "running", "running"]
    open_gate(site)
    site.start()
    for name in names:
        assert site.wait_for_job(name, "succeeded")["new_revision"] == site.remotes[name].tip()
        assert len(site.jobs(name)) == 1


def test_the_daemon_counts_the_syncs_that_others_started_against_max_parallel(site: Site) -> None:
    names = ("a", "b", "c", "d")
    busy = "mkdir ../{0}-runs; ls -d ../?-runs | wc -l >> ../at-once; {1}; rmdir ../{0}-runs"
    for name in names:
        site.add_repo(name, deploy=busy.format(name, gated(site)))
    zzz, trouble = site.add_repo("zzz"), site.state_dir / "locks" / "zzz.lock"
    trouble.mkdir(parents=True)
    site.start()
    site.deliver("zzz", zzz.tip())
    wait_for(
        lambda: "zzz.lock: is not a file; remove it" in text_of(site.get("/readyz")),
        "the trouble with the job that is due first",
    )
    site.run("sync", *names, "--no-wait")
    wait_for(lambda: len(begun_in(site, names)()) == 2, "two syncs at once")

    # Another trouble with the same lock: once it is said, the daemon has looked at every job that is due.
    trouble.rmdir()
    trouble.symlink_to(trouble)
    reload(site)
    wait_for(lambda: "symbolic links" in text_of(site.get("/readyz")), "a look at every job")

    assert len(sync_processes(site)) == 2
    trouble.unlink()
    open_gate(site)
    reload(site)  # has the daemon look now; it would within five seconds
    for name in names:
        site.wait_for_job(name, "succeeded")
    assert max(int(line) for line in (site.checkout("a").parent / "at-once").read_text().split()) == 2


def test_a_sync_by_hand_waits_for_its_turn_beside_those_of_the_daemon(site: Site) -> None:
    names = ("blog", "shop", "wiki")
    for name in names:
        site.add_repo(name, deploy=f"touch ../{name}-runs; {gated(site)}")
    begun = begun_in(site, names)
    site.start()
    for name in ("blog", "shop"):
        site.deliver(name, site.remotes[name].push())
    wait_for(lambda: len(begun()) == 2, "the two syncs of the daemon")

    with (site.root / "output").open("wb") as output:
        by_hand = subprocess.Popen(
            site.command("sync", "wiki"), env=site.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            wait_for(lambda: site.jobs("wiki"), "its job")
            assert [job["state"] for job in site.jobs("wiki")] == ["pending"]
            assert begun() == ["blog", "shop"]
            open_gate(site)
            assert by_hand.wait(WAIT_SEC) == 0, (site.root / "output").read_text()
        finally:
            by_hand.kill()
            by_hand.wait()
    ended = {name: site.wait_for_job(name, "succeeded") for name in names}
    assert ended["wiki"]["started_at"] >= min(ended[name]["finished_at"] for name in ("blog", "shop"))
    assert len(site.jobs("wiki")) == 1


@pytest.mark.parametrize(
    "words", [("sync", "wiki"), ("sync", "wiki", "--no-wait")], ids=["waited for", "not waited for"]
)
def test_syncs_that_a_power_cut_ended_take_nobodys_turn(site: Site, words: tuple[str, ...]) -> None:
    for name in ("blog", "shop"):
        site.add_repo(name, deploy=f"touch ../{name}-runs; {gated(site)}")
    site.add_repo("wiki", timeout="2s")
    site.run("sync", "blog", "shop", "--no-wait")
    wait_for(lambda: len(begun_in(site, ("blog", "shop"))()) == 2, "two syncs")
    site.kill_everything()

    done = site.run(*words)

    assert done.returncode == 0, done.stdout
    wait_for(lambda: site.jobs("wiki")[-1]["state"] == "succeeded", "its sync", limit_sec=10.0)


# Helpers


def gated(site: Site, name: str = "every") -> str:
    """Shell words that wait for `open_gate`."""
    return f'while [ ! -e "{site.root}/gate-{name}" ]; do sleep 0.02; done'


def open_gate(site: Site, name: str = "every") -> None:
    (site.root / f"gate-{name}").touch()


def begun_in(site: Site, names: Sequence[str]) -> Callable[[], list[str]]:
    """Looks which of the repos have a file `NAME-runs` beside their checkout."""
    return lambda: [name for name in names if (site.checkout(name).parent / f"{name}-runs").exists()]


def reload(site: Site) -> None:
    loaded = site.log().count("configuration ")
    site.signal(signal.SIGHUP)
    wait_for(lambda: site.log().count("configuration ") > loaded, "the reload")


def move_store(site: Site, *names: str) -> None:
    for name in names:
        path = Path(f"{path_in(site.state_dir)}{name}")
        with contextlib.suppress(FileNotFoundError):  # SQLite takes away what belongs to it when the last one closes
            path.rename(site.root / f"moved{name}")


def add_below_root(site: Site, root: Path, name: str, *, clone_it: bool = True) -> Remote:
    """A remote, and an opted-in clone of it below a root of the configuration."""
    remote = site.add_repo(name)
    del site.settings["repos"][name]
    site.settings["roots"] = [str(root)]
    site.write_config()
    remote.push({".gitops": ""})
    if clone_it:
        clone(root, name, remote)
    return remote


def clone(root: Path, name: str, remote: Remote) -> None:
    root.mkdir(parents=True, exist_ok=True)
    git(root, "clone", "--quiet", remote.url, name)


def assert_says(site: Site, what: str) -> None:
    """Both `status` and `check` name it."""
    assert any(what in problem for problem in site.json("status")["problems"])
    assert what in site.run("status").stdout
    check = site.run("check", "--json")
    assert check.returncode == 78
    bad = [each["problem"] for each in json.loads(check.stdout)["findings"] if each["problem"]]
    assert len(bad) == 1
    assert what in bad[0]


def sync_processes(site: Site) -> list[int]:
    """The `gitopsd run` of this site that live."""
    found = []
    for pid in site.processes():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"run" in words and any(b"from gitopsd" in word for word in words):
                found.append(pid)
    return found


def text_of(answer: Answer) -> str:
    return answer.body.decode() + str(dict(answer.headers))
