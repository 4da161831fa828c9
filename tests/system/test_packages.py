"""The package for Debian on plain hosts: installed, upgraded, removed and purged with apt."""

import hashlib
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gitopsd import __version__
from tests.system.host import CONFIG, SECRET_FILE, Host
from tests.system.operator import (
    DAEMON,
    SOCKET,
    add_repos,
    daemon_pid,
    deployed,
    drop_in,
    is_active,
    jobs,
    switch_on,
    wait_for_job,
    wait_until_deployed,
)
from tests.system.packages import (
    OLDER_VERSION,
    TOP,
    apt,
    build,
    copy_of_tree,
    give,
    install,
    installed_version,
    older_tree,
    small_package,
)

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="a deb is built on Debian or a relative of it")

HELD = "until [ -e /srv/go ]; do sleep 0.1; done"

# $1… the repos. A push to each, and its delivery, over and over until /run/enough is there; a line for each answer.
SENDER = """
while [ ! -e /run/enough ]; do
    for repo in "$@"; do
        git="git -C /srv/remotes/$repo.git"
        revision=$($git -c user.name=x -c user.email=x@example.org commit-tree -p main -m more 'main^{tree}')
        $git update-ref refs/heads/main "$revision"
        /root/deliver.py http://127.0.0.1:8085/api/webhook/gitops --url "/srv/remotes/$repo.git" \
            --name "demo/$repo" --revision "$revision" >>/run/answers 2>&1 || echo "exit $?" >>/run/answers
        sleep "$(od -An -N1 -tu1 /dev/urandom | awk '{ print $1 / 1000 }')"
    done
done
"""

# A system that is not running, as an image is made: it has no systemd to talk to. $1 what to run in it.
IN_CHROOT = """
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
mount -t proc proc /mnt/root/proc
mount --bind /dev /mnt/root/dev
exec chroot /mnt/root sh -euc "$1"
"""


of_one_release = pytest.mark.parametrize("release", ["debian12"])
"""For what has to do with our own scripts alone, and nothing with the release's dpkg or systemd."""


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The packages of this tree, by their kind."""
    made = build(TOP, tmp_path_factory.mktemp("packages"), "deb", "wheel")
    return dict(zip(("deb", "wheel"), made, strict=True))


@pytest.fixture(scope="session")
def deb(packages: dict[str, Path]) -> Path:
    return packages["deb"]


@pytest.fixture(scope="session")
def older_deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version before this one."""
    place = tmp_path_factory.mktemp("older")
    [made] = build(older_tree(place / "tree"), place, "deb")
    return made


def active_units(host: Host) -> list[str]:
    shown = host.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "gitopsd*").stdout
    return [line.split()[0] for line in shown.splitlines()]


def enablement(host: Host) -> list[str]:
    """The links by which something would be started at a boot."""
    return host.run("find", "/etc/systemd/system", "-type", "l", "-name", "gitopsd*").stdout.split()


def processes(host: Host) -> str:
    users = host.run("pgrep", "-a", "-u", "gitopsd,gitopsd-sync", check=False)
    return users.stdout + host.run("pgrep", "-a", "-f", "^/usr/bin/python3 -I /usr/bin/gitopsd", check=False).stdout


def has_user(host: Host, name: str) -> bool:
    return any(host.run("getent", kind, name, check=False).returncode == 0 for kind in ("passwd", "group", "shadow"))


# ----------------------------------------------------------------------------------------------- installation


def test_a_plain_host_deploys_a_push_after_four_commands(
    bare_host: Host, deb: Path, release: str, tell: Callable[[str], None]
) -> None:
    host = bare_host
    url = host.add_remote("blog")
    path = give(host, deb)
    started = time.monotonic()

    host.run("apt-get", "install", "--yes", path)
    said = host.run("gitopsd", "init").stdout
    host.run("gitopsd", "add", url)
    host.run("systemctl", "enable", "--now", SOCKET)

    ready = time.monotonic()
    [secret] = re.findall(r"^\s*Secret\s+(\S{20,})$", said, re.MULTILINE)
    revision = host.push("blog")
    assert host.deliver("blog", revision, secret=secret).status == 202
    wait_until_deployed(host, "blog", revision)
    tell(f"{release}: 4 commands from a plain host to a deployed push: {ready - started:.1f} s until it listens")
    assert "blog" in host.run("journalctl", "--unit=gitopsd", "--output=cat").stdout
    assert "blog" in host.run("journalctl", "--unit=gitopsd-sync@blog", "--output=cat").stdout


def test_an_installation_starts_and_enables_nothing(bare_host: Host, deb: Path) -> None:
    install(bare_host, deb)
    assert active_units(bare_host) == []
    assert enablement(bare_host) == []
    assert bare_host.run("ss", "--no-header", "--listening", "--tcp", "sport", "=", "8085").stdout == ""
    assert bare_host.run("stat", "-c", "%a %U:%G", "/var/lib/gitopsd/store").stdout == "2770 gitopsd:gitopsd\n"
    assert bare_host.run("stat", "-c", "%a %U:%G", "/etc/gitopsd/secrets").stdout == "700 root:root\n"
    assert bare_host.run("gitopsd", "version").stdout == f"gitopsd {__version__}\n"
    bare_host.run("test", "-x", "/usr/libexec/gitopsd/gitops_sync.sh")
    assert "gitopsd receives webhooks" in bare_host.run("journalctl", "--list-catalog").stdout


@of_one_release
def test_nothing_of_roots_own_python_gets_into_the_commands(bare_host: Host, deb: Path) -> None:
    install(bare_host, deb)
    user_site = bare_host.run("python3", "-m", "site", "--user-site", check=False).stdout.strip()
    for place in ("/root/path", user_site):
        bare_host.write(f"{place}/gitopsd/__init__.py", "raise SystemExit('not this one')")
    said = bare_host.run("gitopsd", "version", environment={"PYTHONPATH": "/root/path", "PYTHONSTARTUP": "/nowhere"})
    assert said.stdout == f"gitopsd {__version__}\n"


@of_one_release
def test_what_a_checkout_has_installed_is_not_hidden_but_named(bare_host: Host, deb: Path) -> None:
    bare_host.install()
    path = give(bare_host, deb)

    refused = bare_host.run("apt-get", "install", "--yes", path, check=False)

    assert refused.returncode != 0
    assert "scripts/install.sh --remove" in refused.stderr + refused.stdout
    bare_host.run("/root/gitopsd/scripts/install.sh", "--remove")
    install(bare_host, deb)
    assert bare_host.run("gitopsd", "version").stdout == f"gitopsd {__version__}\n"


def test_members_of_the_group_may_look_and_others_are_told_what_is_missing(bare_host: Host, deb: Path) -> None:
    host = bare_host
    install(host, deb)
    add_repos(host, "blog", "shop")
    switch_on(host)
    assert host.deliver("blog", host.push("blog")).status == 202
    wait_for_job(host, "blog", "succeeded")
    host.run("useradd", "--create-home", "--groups", "gitopsd", "alice")
    host.run("useradd", "--create-home", "bob")

    status = host.run("gitopsd", "status", user="alice").stdout
    assert re.search(r"^blog +succeeded", status, re.MULTILINE), status
    assert re.search(r"^shop ", status, re.MULTILINE), status

    refused = host.run("gitopsd", "status", user="bob", check=False)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1, refused.stderr
    assert "sudo" in refused.stderr
    assert "group" in refused.stderr


@of_one_release
def test_the_scripts_work_where_no_systemd_runs(bare_host: Host, deb: Path) -> None:
    path = give(bare_host, deb)
    script = f"""
    export DEBIAN_FRONTEND=noninteractive
    apt-get install --yes {path}
    gitopsd version
    systemctl enable gitopsd.socket
    test -L /etc/systemd/system/sockets.target.wants/gitopsd.socket
    test "$(stat -c %U /var/lib/gitopsd/store)" = gitopsd
    apt-get install --yes --reinstall {path}
    apt-get remove --yes gitopsd
    test ! -L /etc/systemd/system/sockets.target.wants/gitopsd.socket
    test -e {CONFIG}
    apt-get purge --yes gitopsd
    test ! -e /etc/gitopsd -a ! -e /var/lib/gitopsd -a ! -e /var/lib/gitopsd-sync
    test -z "$(getent passwd gitopsd gitopsd-sync)"
    """
    bare_host.run("unshare", "--mount", "sh", "-euc", IN_CHROOT, "sh", script)
    assert active_units(bare_host) == []


# ---------------------------------------------------------------------------------------------------- upgrade


@pytest.mark.parametrize("idle_exit", ["5m", "50ms"])
def test_an_upgrade_loses_no_delivery_and_leaves_a_running_sync_alone(
    bare_host: Host, deb: Path, older_deb: Path, release: str, idle_exit: str, tell: Callable[[str], None]
) -> None:
    host = bare_host
    names = ["one", "two"]
    install(host, older_deb)
    add_repos(host, "held", *names, settings={"idle_exit": idle_exit})
    # Only this one waits for somebody.
    host.push("held", {"deploy.sh": f"#!/bin/sh\n{HELD}\n"})
    switch_on(host)
    host.write("/root/deliver.py", (TOP / "scripts" / "deliver.py").read_text(), 0o755)
    path = give(host, deb)
    settings = host.read(CONFIG)
    held_at = host.push("held")
    assert host.deliver("held", held_at).status == 202
    held = host.wait_for(lambda: [job for job in jobs(host, "held") if job["state"] == "running"], "the held sync")
    held_pid = host.unit("gitopsd-sync@held.service", "MainPID")
    assert held_pid != {"MainPID": "0"}
    opened_at = host.unit(SOCKET, "ActiveEnterTimestampMonotonic")
    secret = {"GITHUB_WEBHOOK_SECRET": host.read(SECRET_FILE)}

    def answers() -> int:
        return int(host.run("sh", "-c", "cat /run/answers 2>/dev/null | wc -l").stdout)

    sender = host.start_process("sh", "-euc", SENDER, "sh", *names, environment=secret)
    host.wait_for(lambda: answers() > 3, "the first answers")
    old_jobs = {name: [job["id"] for job in jobs(host, name)] for name in names}
    before, started = answers(), time.monotonic()

    apt(host, "install", path)

    during, seconds = answers() - before, time.monotonic() - started
    assert during, "no delivery came while it was upgraded"
    host.wait_for(lambda: answers() > before + during + 3, "answers after the upgrade")
    host.run("touch", "/run/enough")
    _, complaints = sender.communicate(timeout=60)
    tell(f"{release}, idle_exit {idle_exit}: upgraded in {seconds:.1f} s; {during} deliveries meanwhile, none lost")
    said = host.read("/run/answers")
    assert [line for line in said.splitlines() if not line.startswith("202 ")] == [], said
    assert complaints == ""
    assert installed_version(host) == __version__
    for name in names:
        wait_until_deployed(
            host, name, host.run("git", "-C", f"/srv/remotes/{name}.git", "rev-parse", "main").stdout.strip()
        )
        ids = [job["id"] for job in jobs(host, name)]
        assert ids[: len(old_jobs[name])] == old_jobs[name]
    assert host.read(CONFIG) == settings
    assert host.unit(SOCKET, "ActiveEnterTimestampMonotonic") == opened_at
    assert host.unit("gitopsd-sync@held.service", "MainPID") == held_pid

    host.run("touch", "/srv/go")
    wait_until_deployed(host, "held", held_at)
    assert [job["state"] for job in jobs(host, "held") if job["id"] == held[0]["id"]] == ["succeeded"]


# As docs/engine.md shows it: what apt does is what the sandbox of a sync is there to keep from everybody else.
MAY_INSTALL = """[Service]
User=root
PrivateUsers=no
ProtectSystem=no
ProtectKernelTunables=no
ProtectControlGroups=no
CapabilityBoundingSet=~
NoNewPrivileges=no
RestrictSUIDSGID=no
SystemCallFilter=
InaccessiblePaths=
"""


def test_a_repo_that_upgrades_gitopsd_ends_its_own_deploy_in_peace(
    bare_host: Host, deb: Path, older_deb: Path, release: str
) -> None:
    host = bare_host
    install(host, older_deb)
    host.run("cp", give(host, deb), "/srv/new.deb")  # its own /var/tmp is empty
    upgrade = "DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i /srv/new.deb && echo after the upgrade"
    add_repos(host, "self", deploy=upgrade)
    host.run("chown", "root:root", "/srv/self")
    drop_in(host, "gitopsd-sync@self.service", MAY_INSTALL)
    switch_on(host)
    revision = host.push("self")
    assert host.deliver("self", revision).status == 202
    job = wait_for_job(host, "self", "succeeded", "failed")
    output = host.run("gitopsd", "logs", str(job["id"])).stdout
    assert (job["state"], job["new_revision"]) == ("succeeded", revision), output
    assert installed_version(host) == __version__
    assert "after the upgrade" in output
    assert len(jobs(host, "self")) == 1
    next_one = host.push("self", {"deploy.sh": "#!/bin/sh\ntrue\n"})
    assert host.deliver("self", next_one).status == 202
    wait_until_deployed(host, "self", next_one)


@of_one_release
def test_an_upgrade_leaves_timers_running_and_starts_the_new_daemon(
    bare_host: Host, deb: Path, older_deb: Path
) -> None:
    host = bare_host
    install(host, older_deb)
    add_repos(host, "blog")
    switch_on(host, timers=True)
    assert host.deliver("blog", host.push("blog")).status == 202
    timers = ("gitopsd-poll.timer", "gitopsd-catchall.timer")
    since = {timer: host.unit(timer, "ActiveEnterTimestampMonotonic") for timer in timers}
    old_pid = daemon_pid(host)
    assert old_pid

    install(host, deb)

    assert daemon_pid(host) not in (0, old_pid)
    assert is_active(host, DAEMON)
    assert {timer: host.unit(timer, "ActiveEnterTimestampMonotonic") for timer in timers} == since
    assert all(is_active(host, timer) for timer in timers)


def test_a_delivery_between_unpacking_and_configuring_is_deployed(bare_host: Host, deb: Path, older_deb: Path) -> None:
    host = bare_host
    install(host, older_deb)
    add_repos(host, "blog")
    switch_on(host)
    host.run("dpkg", "--force-confold", "--unpack", give(host, deb))
    assert daemon_pid(host) == 0
    revision = host.push("blog")

    assert host.deliver("blog", revision).status == 202
    wait_until_deployed(host, "blog", revision)

    host.run("dpkg", "--force-confold", "--configure", "gitopsd")
    assert installed_version(host) == __version__
    assert is_active(host, SOCKET)


@of_one_release
def test_an_upgrade_of_a_host_where_nothing_is_switched_on_starts_nothing(
    bare_host: Host, deb: Path, older_deb: Path
) -> None:
    install(bare_host, older_deb)
    install(bare_host, deb)
    assert installed_version(bare_host) == __version__
    assert active_units(bare_host) == []
    assert enablement(bare_host) == []


def test_a_changed_configuration_survives_and_an_unchanged_one_follows_the_package(
    bare_host: Host, deb: Path, older_deb: Path
) -> None:
    host = bare_host
    install(host, older_deb)
    assert host.read(CONFIG).endswith("# A line of the version before.\n")
    install(host, deb)
    assert host.read(CONFIG) == (TOP / "docs" / "gitopsd.example.yaml").read_text()
    add_repos(host, "blog")
    mine = host.read(CONFIG)

    apt(host, "install", "--reinstall", give(host, deb))
    assert host.read(CONFIG) == mine
    apt(host, "install", "--allow-downgrades", give(host, older_deb))  # whose own text is another one
    assert installed_version(host) == OLDER_VERSION

    assert host.read(CONFIG) == mine
    assert host.run("gitopsd", "check").returncode == 0


def test_a_file_that_another_package_drops_into_conf_d_is_taken_up_by_a_reload(bare_host: Host, deb: Path) -> None:
    host = bare_host
    install(host, deb)
    add_repos(host, "blog")
    switch_on(host)
    assert host.deliver("blog", host.push("blog")).status == 202
    url = host.add_remote("shop")
    host.run("install", "-d", "-o", "gitopsd-sync", "/srv/shop")
    drop = f"repos:\n  shop:\n    url: {url}\n    path: /srv/shop\n"

    apt(host, "install", small_package(host, "shop-deploys", {"/etc/gitopsd/conf.d/shop.yaml": drop}))
    host.run("systemctl", "reload", DAEMON)

    revision = host.push("shop")
    host.wait_for(lambda: "shop" in host.deliver("shop", revision).body, "a job of the new repo")
    wait_until_deployed(host, "shop", revision)
    apt(host, "purge", "gitopsd")
    assert host.exists("/etc/gitopsd/conf.d/shop.yaml") is False  # it is configuration of gitopsd, whoever brought it


# ------------------------------------------------------------------------------------------- remove and purge


def test_a_removal_stops_everything_and_a_reinstallation_goes_on_where_it_was(bare_host: Host, deb: Path) -> None:
    host = bare_host
    install(host, deb)
    add_repos(host, "blog", deploy=HELD)
    drop_in(host, DAEMON, "[Service]\nNice=1\n")
    switch_on(host, timers=True)
    host.run("systemctl", "enable", "gitopsd-tunnel.service", "gitopsd-poll.timer")
    revision = host.push("blog")
    assert host.deliver("blog", revision).status == 202
    host.wait_for(lambda: is_held(host, "blog"), "the held sync")

    apt(host, "remove", "gitopsd")

    assert active_units(host) == []
    assert processes(host) == ""
    assert enablement(host) == []
    assert host.exists(f"/etc/systemd/system/{DAEMON}.d/override.conf")
    assert not host.exists("/usr/bin/gitopsd")
    assert not host.exists("/usr/lib/python3/dist-packages/gitopsd")
    assert "blog" in host.read(CONFIG)
    assert host.exists(SECRET_FILE)
    assert has_user(host, "gitopsd-sync")

    install(host, deb)
    assert active_units(host) == []
    assert [job["state"] for job in jobs(host, "blog")] == ["interrupted", "pending"]
    host.run("touch", "/srv/go")
    switch_on(host)
    host.run("systemctl", "start", DAEMON)
    wait_until_deployed(host, "blog", revision)
    assert host.unit(DAEMON, "Nice") == {"Nice": "1"}


def is_held(host: Host, name: str) -> bool:
    return host.run("pgrep", "-u", "gitopsd-sync", "-f", "deploy.sh", check=False).returncode == 0


def test_a_purge_takes_configuration_and_state_but_nothing_that_is_not_gitopsds_own(bare_host: Host, deb: Path) -> None:
    host = bare_host
    install(host, deb)
    add_repos(host, "blog")
    switch_on(host, timers=True)
    revision = host.push("blog")
    assert host.deliver("blog", revision).status == 202
    wait_until_deployed(host, "blog", revision)
    cache, state = "/var/cache/gitopsd-sync/blog", "/var/lib/gitopsd"
    host.write("/root/precious/file", "mine")
    host.write("/etc/gitopsd/keys/blog", "key", 0o600)
    host.run("ln", "-s", "/root/precious", "/etc/gitopsd/conf.d/linked")
    host.run("ln", "-s", "/root/precious", f"{cache}/linked")
    host.write(f"{cache}/.cache/with a space", "of a deploy", owner="gitopsd-sync")
    host.run("mkdir", "-p", f"{cache}/tmpfs", f"{cache}/bound", f"{state}/checkouts")
    host.run("mount", "-t", "tmpfs", "tmpfs", f"{cache}/tmpfs")
    host.write(f"{cache}/tmpfs/file", "elsewhere")
    host.run("mount", "--bind", "/root/precious", f"{cache}/bound")
    host.run("git", "init", "--quiet", f"{state}/checkouts/mine")
    host.run("git", "init", "--quiet", f"{state}/logs/a checkout")
    host.run("git", "init", "--quiet", "/etc/gitopsd")
    host.write("/etc/gitopsd/conf.d/wiki.yaml", "repos:\n  wiki:\n    url: /srv/wiki.git\n    path: '/opt/wiki'\n")
    host.run("install", "-d", "-o", "gitopsd-sync", "/opt/wiki")

    said = apt(host, "purge", "gitopsd")

    for gone in (
        "/etc/gitopsd/secrets",
        "/etc/gitopsd/keys",
        "/etc/gitopsd/notify",
        f"{state}/store",
        f"{state}/locks",
        f"{state}/daemon",
        f"{state}/holds",
        f"{state}/logs/blog",
    ):
        assert not host.exists(gone), gone
    assert not host.exists(f"{cache}/.cache")
    assert not host.exists("/var/lib/gitopsd-sync")
    kept = ["/etc/gitopsd", f"{state}/checkouts", f"{state}/logs/a checkout", f"{cache}/tmpfs", f"{cache}/bound"]
    for path in kept:
        assert path.removeprefix(f"{state}/") in said, said
    for path in (f"{state}/checkouts/mine/.git/HEAD", f"{state}/logs/a checkout/.git/HEAD", f"{cache}/tmpfs/file"):
        assert host.exists(path), path
    assert host.exists("/root/precious/file")
    assert deployed(host, "blog") == revision
    assert active_units(host) == []
    assert processes(host) == ""
    assert not has_user(host, "gitopsd")
    [line] = [line for line in said.splitlines() if "userdel" in line]
    assert re.search(r"kept the user gitopsd-sync, who owns /opt/wiki; .*userdel gitopsd-sync$", line), line
    assert has_user(host, "gitopsd-sync")


def test_a_purge_leaves_no_user_once_nothing_is_owned_and_a_reinstallation_is_as_new(
    bare_host: Host, deb: Path
) -> None:
    host = bare_host
    install(host, deb)
    add_repos(host, "blog")
    switch_on(host, timers=True)
    assert host.deliver("blog", host.push("blog")).status == 202
    wait_for_job(host, "blog", "succeeded")
    host.run("useradd", "--groups", "gitopsd", "alice")
    host.run("chown", "-R", "alice", "/srv/blog")

    said = apt(host, "purge", "gitopsd")

    assert "kept" not in said, said
    assert not has_user(host, "gitopsd")
    assert not has_user(host, "gitopsd-sync")
    left = host.run("find", "/etc", "/var", "/usr", "/run", "-xdev", "-name", "*gitopsd*", "-print").stdout.split()
    assert [path for path in left if "/var/tmp/" not in path and "apt/" not in path] == []

    install(host, deb)
    host.run("rm", "-r", "/srv/blog", "/srv/remotes")
    add_repos(host, "blog")
    switch_on(host)
    revision = host.push("blog")
    assert host.deliver("blog", revision).status == 202
    wait_until_deployed(host, "blog", revision)
    assert len(jobs(host, "blog")) == 1


# ------------------------------------------------------------------------------------------ the files themselves


def run_here(*argv: str | Path) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needs(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"not installed here: {tool}")


def test_lintian_has_nothing_to_say(deb: Path) -> None:
    needs("lintian")
    assert run_here("lintian", "--fail-on", "error,warning", "--allow-root", deb) == ""


def test_two_builds_have_the_same_bytes_wherever_the_tree_lies(packages: dict[str, Path], tmp_path: Path) -> None:
    committed_at = run_here("git", "-c", "safe.directory=*", "-C", TOP, "log", "-1", "--format=%ct").strip()
    again = build(
        copy_of_tree(tmp_path / "a copy"),
        tmp_path / "out",
        *("deb", "wheel"),
        environment={"SOURCE_DATE_EPOCH": committed_at, "TZ": "Asia/Tokyo", "LC_ALL": "C"},
    )
    for first, second in zip(packages.values(), again, strict=True):
        assert first.name == second.name
        assert hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(second.read_bytes()).digest(), first.name


def test_every_package_has_the_one_version(packages: dict[str, Path]) -> None:
    assert run_here("dpkg-deb", "--field", packages["deb"], "Version") == f"{__version__}\n"
    with zipfile.ZipFile(packages["wheel"]) as wheel:
        metadata = wheel.read(f"gitopsd-{__version__}.dist-info/METADATA").decode()
    assert f"\nVersion: {__version__}\n" in metadata


def test_the_deb_holds_nothing_of_its_dependencies_and_no_compiled_module(deb: Path, tmp_path: Path) -> None:
    run_here("dpkg-deb", "--extract", deb, tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()}
    modules = "usr/lib/python3/dist-packages"
    ours = (f"{modules}/gitopsd/", f"{modules}/gitopsd-{__version__}.dist-info/")
    assert [path for path in files if path.startswith(modules) and not path.startswith(ours)] == []
    assert [path for path in files if path.endswith((".py", ".pyc")) and not path.startswith(ours[0])] == []
    assert [path for path in files if "__pycache__" in path] == []
    depends = run_here("dpkg-deb", "--field", deb, "Depends")
    for name in ("falcon", "waitress", "yaml", "filelock", "greenlet", "sdnotify", "pystemd", "jsonschema", "rich"):
        assert f"python3-{name}" in depends
    engine = tmp_path / modules / "gitopsd" / "gitops_sync.sh"
    assert not engine.is_symlink()
    assert engine.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "usr/libexec/gitopsd/gitops_sync.sh").resolve() == engine.resolve()


def test_the_engine_in_the_wheel_is_a_program_and_no_link(packages: dict[str, Path]) -> None:
    with zipfile.ZipFile(packages["wheel"]) as wheel:
        engine = wheel.getinfo("gitopsd/gitops_sync.sh")
        assert engine.external_attr >> 16 == 0o100755
        assert wheel.read(engine) == (TOP / "scripts" / "gitops_sync.sh").read_bytes()
