"""Who may do what: the two users, and the sandboxes of the units, seen from inside."""

from typing import Any

import pytest

from tests.site import SECRET
from tests.system.host import SECRET_FILE, Host
from tests.system.operator import DAEMON, add_repos, deployed, drop_in, jobs, let_in_by_key, switch_on, wait_for_job
from tests.system.sandbox import look_around

SYNC_OF_BLOG = "gitopsd-sync@blog.service"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nnot really\n-----END OPENSSH PRIVATE KEY-----\n"


def start(host: Host, user: str, *words: str) -> int:
    """The exit code of `systemctl WORDS` as that user."""
    return host.run("systemctl", "--no-ask-password", *words, user=user, check=False).returncode


def test_the_daemons_user_may_start_the_sync_of_a_repo(host: Host) -> None:
    add_repos(host, "blog", "my-blog")
    for name in ("blog", r"my\x2dblog"):
        assert start(host, "gitopsd", "start", f"gitopsd-sync@{name}.service") == 0


@pytest.mark.parametrize(
    "words",
    [
        ("stop", SYNC_OF_BLOG),
        ("restart", SYNC_OF_BLOG),
        ("reload-or-restart", SYNC_OF_BLOG),
        ("kill", SYNC_OF_BLOG),
        ("set-property", SYNC_OF_BLOG, "MemoryMax=1G"),
        ("start", "gitopsd-poll.service"),
        ("start", "gitopsd-catchall.service"),
        ("stop", "gitopsd.socket"),
        ("restart", DAEMON),
        ("start", "systemd-journal-flush.service"),
        ("start", "gitopsd-sync@.service.wants-more.service"),
        ("start", "gitopsd-sync@Blog.service"),
        ("start", "gitopsd-sync@-etc-passwd.service"),
        ("start", "rescue.target"),
        ("daemon-reload",),
        ("poweroff",),
    ],
    ids=" ".join,
)
def test_the_daemons_user_may_do_nothing_else(host: Host, words: tuple[str, ...]) -> None:
    add_repos(host, "blog")
    assert start(host, "gitopsd", *words) != 0
    assert host.run("systemctl", "is-system-running").stdout.strip() == "running"


def test_the_daemons_user_may_start_no_unit_of_its_own_making(host: Host) -> None:
    for name in ("x.service", "gitopsd-sync@blog.service"):
        argv = ("systemd-run", "--no-ask-password", "--wait", f"--unit={name}", "id")
        assert host.run(*argv, user="gitopsd", check=False).returncode != 0


def test_the_syncs_user_may_start_the_daemon_and_nothing_else(host: Host) -> None:
    add_repos(host, "blog", "shop")
    switch_on(host)
    assert start(host, "gitopsd-sync", "start", DAEMON) == 0
    for words in (
        ("stop", DAEMON),
        ("restart", DAEMON),
        ("start", "gitopsd-sync@shop.service"),
        ("start", "ssh.service"),
    ):
        assert start(host, "gitopsd-sync", *words) != 0, words


def test_anybody_else_is_told_to_ask_root(host: Host) -> None:
    add_repos(host, "blog")
    switch_on(host)
    host.run("sh", "-c", "id ada >/dev/null 2>&1 || useradd --create-home --groups gitopsd ada")
    host.run("usermod", "--append", "--groups", "gitopsd", "ada")
    assert host.run("gitopsd", "status", user="ada").stdout.startswith("REPO")
    done = host.run("gitopsd", "sync", "blog", user="ada", check=False)
    assert done.returncode == 1
    assert "run: sudo gitopsd sync blog" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert jobs(host, "blog") == [], "what could not be started was queued"
    assert host.run("gitopsd", "poll", user="ada", check=False).returncode == 1


def test_from_inside_the_daemons_sandbox_there_is_nowhere_to_go(host: Host) -> None:
    add_repos(host, "blog")
    host.run("gitopsd", "sync", "blog")
    host.write("/var/lib/gitopsd-sync/.ssh/id_ed25519", KEY, mode=0o644, owner="gitopsd-sync")
    host.write("/etc/gitopsd/keys/blog", KEY, mode=0o600)
    host.run("chmod", "-R", "a+rwX", "/srv/blog", "/var/lib/gitopsd-sync")  # the sandbox, not the modes, is looked at

    found = look_around(
        host,
        DAEMON,
        read=[
            "/var/lib/gitopsd-sync",
            "/var/lib/gitopsd-sync/.ssh/id_ed25519",
            "/var/cache/gitopsd-sync/blog",
            "/etc/gitopsd/keys",
            "/etc/gitopsd/secrets",
            "/var/lib/gitopsd/logs",
            "/var/lib/gitopsd/mirrors",
            "/root",
            "/dev/kmsg",
            "/proc/kallsyms",
        ],
        write=[
            "/srv/blog/planted",
            "/etc/gitopsd/gitopsd.yaml",
            "/var/lib/gitopsd/planted",
            "/var/lib/gitopsd/logs/planted",
            "/var/lib/gitopsd/mirrors/planted",
            "/var/lib/gitopsd/locks/planted",
            "/var/lib/gitopsd/holds/planted",
            "/var/lib/gitopsd-sync/planted",
            "/usr/local/bin/planted",
        ],
        link=["/var/lib/gitopsd/store/planted", "/tmp/planted"],
        connect=[("127.0.0.1", 22), ("127.0.0.1", 8085), ("192.0.2.1", 80)],
    )

    assert not {what for what, came in found.items() if came == "yes"}
    assert found["capabilities"] == "0" * 16
    assert found["io_uring"] == "Operation not permitted", "it would go round the filter of calls"
    assert len(found["processes"]) == 1, "it sees others"
    can = look_around(host, DAEMON, read=[], write=["/var/lib/gitopsd/store/kept"])
    assert can["write /var/lib/gitopsd/store/kept"] == "yes"


HOSTILE = """
umask 000
try() { "$@" 2>/dev/null && echo "COULD $*"; }
try sh -c 'echo "ProxyCommand sh -c id>/srv/blog/stolen" >>/var/lib/gitopsd-sync/.ssh/config'
try mkdir /var/lib/gitopsd-sync/.ssh
try sh -c 'echo "[core] sshCommand = false" >>/var/lib/gitopsd-sync/.gitconfig'
try git config --global core.sshCommand false
try ln -s /srv/blog /var/lib/gitopsd/logs/bank
try touch /var/lib/gitopsd/daemon/planted
try touch /var/lib/gitopsd/holds/planted
try mkdir /var/lib/gitopsd/logs/shop/planted
try ln -s /etc/passwd /var/lib/gitopsd/logs/shop/99.report
try sh -c 'echo forged >>/var/lib/gitopsd/logs/shop/1.log'
try touch /var/lib/gitopsd/mirrors/planted /var/lib/gitopsd/mirrors/shop/planted
try sh -c 'echo x >>/var/lib/gitopsd/mirrors/shop/config'
try sh -c 'echo x >>/var/cache/gitopsd-sync/shop/.gitconfig'
echo it has tried everything; touch "$HOME/mine" && echo its home is its own
"""


def test_a_hostile_deploy_lays_no_trap_for_other_syncs_for_polls_or_for_the_daemon(host: Host) -> None:
    add_repos(host, "shop", "blog", deploy=HOSTILE)
    host.write("/srv/remotes/shop.work/deploy.sh", "#!/bin/sh\ntrue\n", 0o755)
    host.push("shop", {"deploy.sh": "#!/bin/sh\ntrue\n"})
    switch_on(host)
    assert host.run("gitopsd", "sync", "shop").returncode == 0
    done = host.run("gitopsd", "sync", "blog")
    assert "COULD" not in done.stdout, done.stdout
    assert "it has tried everything" in done.stdout
    assert "its home is its own" in done.stdout
    assert host.deliver("shop", host.push("shop")).status == 202
    wait_for_job(host, "shop", "succeeded", count=2)


def test_a_report_that_became_a_pipe_holds_up_neither_the_sync_nor_status(host: Host) -> None:
    trap = 'cd /var/lib/gitopsd/logs/blog; for each in *.report; do rm "$each"; mkfifo "$each"; done; echo done'
    add_repos(host, "blog", deploy=trap)
    switch_on(host)
    host.run("gitopsd", "sync", "blog", check=False, timeout=30)
    assert host.run("gitopsd", "status", timeout=10).returncode == 0
    assert jobs(host, "blog")[-1]["state"] not in ("running", "pending")


def test_from_inside_a_sync_there_is_no_secret_of_anybody_else(host: Host) -> None:
    gate = "/srv/gate"
    add_repos(host, "blog", "shop", deploy=f"touch begun; while [ ! -e {gate} ]; do sleep 0.05; done")
    host.write("/etc/gitopsd/keys/shop", KEY, mode=0o600)
    switch_on(host)
    assert host.deliver("shop", host.push("shop")).status == 202
    host.wait_for(lambda: host.exists("/srv/shop/begun"), "the other sync")
    other = host.unit("gitopsd-sync@shop.service", "MainPID")["MainPID"]
    daemon = host.unit(DAEMON, "MainPID")["MainPID"]
    assert host.exists("/run/credentials/gitopsd-sync@shop.service/ssh-key")

    found = look_around(
        host,
        SYNC_OF_BLOG,
        read=[
            "/run/credentials/gitopsd.service",
            "/run/credentials/gitopsd-sync@shop.service",
            "/run/credentials/gitopsd-sync@shop.service/ssh-key",
            f"/proc/{other}/root/run/credentials/gitopsd-sync@shop.service/ssh-key",
            f"/proc/{other}/environ",
            f"/proc/{daemon}/root/run/credentials/gitopsd.service",
            f"/proc/{daemon}/environ",
            SECRET_FILE,
            "/etc/gitopsd/secrets",
            "/etc/gitopsd/keys",
            "/etc/gitopsd/keys/shop",
            "/root",
        ],
        write=["/etc/gitopsd/gitopsd.yaml", "/usr/local/bin/planted", "/etc/cron.d/planted"],
    )

    host.write(gate, "")
    assert not {what for what, came in found.items() if came == "yes" and what != "io_uring"}
    assert found["capabilities"] == "0" * 16
    wait_for_job(host, "shop", "succeeded")


@pytest.mark.parametrize("name", ["gitopsd.sqlite3", "gitopsd.sqlite3-wal", "gitopsd.sqlite3-shm"])
def test_a_link_that_a_deploy_lays_into_the_store_leads_root_nowhere(host: Host, name: str) -> None:
    add_repos(host, "blog")
    assert host.run("gitopsd", "sync", "blog").returncode == 0
    host.write("/etc/victim", "as it was")
    folder = "/var/lib/gitopsd/store"
    lay = f"rm -f {folder}/{name}; ln -s /etc/victim {folder}/{name}"
    host.run("setpriv", "--reuid=gitopsd-sync", "--regid=gitopsd-sync", "--groups=gitopsd", "sh", "-c", lay)

    for command in ("status", "history"):
        done = host.run("gitopsd", command, check=False)
        assert done.returncode != 0
        assert len(done.stderr.splitlines()) == 1, done.stderr
    assert host.read("/etc/victim") == "as it was"


def test_the_key_of_a_repo_is_used_for_it_and_for_no_other(host: Host) -> None:
    """Real ssh: the remote lets in who has the key, and only the sync of blog has it."""
    add_repos(host, "blog", "shop")
    let_in_by_key(host, key="/etc/gitopsd/keys/blog")
    host.run("sed", "-i", "s#url: /srv#url: ssh://root@127.0.0.1/srv#", "/etc/gitopsd/gitopsd.yaml")
    switch_on(host)

    assert host.run("gitopsd", "sync", "blog").returncode == 0
    refused = host.run("gitopsd", "sync", "shop", "--no-wait")
    assert refused.returncode == 0
    assert "Permission denied" in wait_for_job(host, "shop", "failed")["reason"]

    host.run("systemctl", "start", "gitopsd-poll.service")
    status = host.run("gitopsd", "status").stdout
    assert "could not ask the remote of shop" in status
    assert "could not ask the remote of blog" not in status


def test_a_drop_in_for_one_repo_takes_effect_for_that_repo_alone(host: Host) -> None:
    say = 'id -un; ls "$CREDENTIALS_DIRECTORY"'
    add_repos(host, "blog", "shop", deploy=say)
    let_in_by_key(host, key="/root/key-of-blog")
    host.run("sed", "-i", "s#url: /srv#url: ssh://root@127.0.0.1/srv#", "/etc/gitopsd/gitopsd.yaml")
    host.run(
        "sh", "-c", "id ada >/dev/null 2>&1 || useradd --create-home ada; rm -rf /srv/blog; install -d -o ada /srv/blog"
    )
    drop_in(
        host,
        SYNC_OF_BLOG,
        "[Service]\nUser=ada\nMemoryMax=300M\nLoadCredential=ssh-key:/root/key-of-blog\n"
        f"LoadCredential=npm-token:{SECRET_FILE}\n",
    )
    switch_on(host)

    done = host.run("gitopsd", "sync", "blog").stdout

    assert "\nada\n" in done, done
    assert host.unit(SYNC_OF_BLOG, "MemoryMax")["MemoryMax"] == str(300 * 1024 * 1024)
    assert host.unit("gitopsd-sync@shop.service", "MemoryMax")["MemoryMax"] == "infinity"
    assert "\nnpm-token\nssh-key\n" in done, done
    assert host.run("stat", "-c", "%U", "/srv/blog/.git").stdout == "ada\n"
    host.run("gitopsd", "sync", "shop", "--no-wait")
    assert "Permission denied" in wait_for_job(host, "shop", "failed")["reason"], jobs(host, "shop")
    assert deployed(host, "shop") == ""
    # And back again: what ada's syncs have left behind does not stand in the way.
    host.run("rm", "-r", f"/etc/systemd/system/{SYNC_OF_BLOG}.d")
    host.run("systemctl", "daemon-reload")
    host.run("install", "-m", "0600", "/root/key-of-blog", "/etc/gitopsd/keys/blog")
    host.run("chown", "-R", "gitopsd-sync:", "/srv/blog")
    assert host.run("gitopsd", "sync", "blog", "--force").returncode == 0


def test_a_mirror_belongs_to_its_sync_and_strangers_do_not_see_it(host: Host) -> None:
    mirror = "/var/lib/gitopsd/mirrors/blog"
    add_repos(host, "blog", "shop", release=True)
    switch_on(host)
    for name in ("blog", "shop"):
        assert host.run("gitopsd", "sync", name).returncode == 0
    assert host.run("stat", "-c", "%U %a", mirror).stdout == "gitopsd-sync 2755\n"
    assert host.run("stat", "-c", "%U %a", "/var/lib/gitopsd/mirrors").stdout == "root 755\n"
    assert host.run("ls", mirror, user="nobody", check=False).returncode != 0
    assert host.run("cat", "/srv/blog/current/deploy.sh", user="nobody").returncode == 0

    # Under another user, and back again: the mirror is handed over, what is in /srv by the operator.
    host.run("sh", "-c", "id ada >/dev/null 2>&1 || useradd --create-home ada; chown -Rh ada /srv/blog")
    drop_in(host, SYNC_OF_BLOG, "[Service]\nUser=ada\n")
    revision = host.push("blog")
    assert host.deliver("blog", revision).status == 202
    assert wait_for_job(host, "blog", "succeeded", count=2)["new_revision"] == revision
    assert host.run("stat", "-c", "%U", mirror, f"{mirror}/HEAD", "/srv/blog/current").stdout == "ada\n" * 3
    assert host.run("stat", "-c", "%U", "/var/lib/gitopsd/mirrors/shop").stdout == "gitopsd-sync\n"
    host.run("rm", "-r", f"/etc/systemd/system/{SYNC_OF_BLOG}.d")
    host.run("systemctl", "daemon-reload")
    host.run("chown", "-Rh", "gitopsd-sync:", "/srv/blog")
    assert host.run("gitopsd", "sync", "blog", "--force").returncode == 0


def test_the_secret_is_in_no_entry_of_the_journal_and_each_step_is(host: Host) -> None:
    add_repos(host, "blog", deploy="echo from the deploy; env")
    switch_on(host)
    revision = host.push("blog")
    assert host.deliver("blog", revision, delivery="the-delivery").status == 202
    assert host.deliver("blog", revision, secret="not it").status == 401
    wait_for_job(host, "blog", "succeeded")

    def entries(**wanted: str) -> list[dict[str, Any]]:
        return host.journal(*(f"GITOPSD_{name.upper()}={value}" for name, value in wanted.items()))

    finished = host.wait_for(lambda: entries(repo="blog", result="succeeded"), "the record in the journal")
    assert {entry["GITOPSD_DELIVERY"] for entry in entries(repo="blog")} == {"the-delivery"}
    assert [entry["GITOPSD_REVISION"] for entry in finished] == [revision]
    assert entries(repo="blog", result="accepted")[0]["GITOPSD_REVISION"] == revision
    phases = [entry["GITOPSD_PHASE"] for entry in entries(repo="blog") if "GITOPSD_PHASE" in entry]
    assert list(dict.fromkeys(phases)) == ["prepare", "fetch", "select", "activate", "deploy"]
    output = [entry for entry in entries(repo="blog", phase="deploy") if entry["MESSAGE"] == "from the deploy"]
    assert [(entry["GITOPSD_JOB"], entry["_SYSTEMD_UNIT"]) for entry in output] == [("1", SYNC_OF_BLOG)]
    assert SECRET not in host.run("journalctl", "--no-pager", "--all", "--output=export").stdout
