"""`gitopsd check` on a host with units: it looks with the eyes of the users that will do the work."""

import pytest
import yaml

from tests.system.host import SECRET_FILE, Host
from tests.system.operator import add_repos, drop_in, is_active, let_in_by_key, switch_on, wait_until_deployed

# For what has to do with our own files alone, and nothing with the version of systemd.
pytestmark = pytest.mark.parametrize("release", ["debian13"])

UNIT = "gitopsd-sync@blog.service"


def problems(host: Host) -> list[str]:
    said = host.run("gitopsd", "check", check=False).stdout
    return [line for line in said.splitlines() if line.startswith("✗")]


def test_all_is_well_after_the_steps_of_the_readme(host: Host) -> None:
    add_repos(host, "blog")
    assert problems(host) == []


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ("chown ada /srv/blog", "belongs to ada, and its sync runs as gitopsd-sync"),
        ("rmdir /srv/blog", "run: install -d -o gitopsd-sync /srv/blog"),
        ("sed -i s#/srv/blog#/opt/blog# /etc/gitopsd/gitopsd.yaml", "ReadWritePaths=/opt/blog"),
        (f": >{SECRET_FILE}", "is empty (/etc/gitopsd/secrets/github-webhook-secret); run: gitopsd init"),
        (f"rm {SECRET_FILE}", "No such file or directory); run: gitopsd init"),
    ],
)
def test_what_would_keep_a_push_from_being_deployed_is_told_before_the_push(
    host: Host, trouble: str, told: str
) -> None:
    add_repos(host, "blog")
    host.run("sh", "-c", "id ada >/dev/null 2>&1 || useradd ada")
    host.run("sh", "-c", trouble)
    found = problems(host)
    assert len(found) == 1, found
    assert told in found[0]


def test_what_a_drop_in_allows_is_no_problem(host: Host) -> None:
    add_repos(host, "blog")
    host.run("install", "-d", "-o", "gitopsd-sync", "/opt/blog")
    host.run("sed", "-i", "s#/srv/blog#/opt/blog#", "/etc/gitopsd/gitopsd.yaml")
    drop_in(host, UNIT, "[Service]\nReadWritePaths=/opt/blog\n")
    assert problems(host) == []
    assert host.run("gitopsd", "sync", "blog").returncode == 0
    host.run("rm", "-r", "/opt/blog")


def test_all_is_well_with_a_release_before_its_first_sync_and_after_it(host: Host) -> None:
    add_repos(host, "blog", release=True)
    assert problems(host) == []
    assert host.run("gitopsd", "sync", "blog").returncode == 0
    assert host.run("readlink", "/srv/blog/current").stdout.startswith(".current.releases/")
    assert problems(host) == []


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ("chown ada /srv/blog", "gitopsd-sync cannot write in /srv/blog; run: chown gitopsd-sync /srv/blog, or take"),
        ("rmdir /srv/blog", "cannot make /srv/blog; run: install -d -o gitopsd-sync /srv/blog"),
        ("install -d -o ada /srv/blog/.current.releases", "/srv/blog/.current.releases belongs to ada"),
        ("mkdir -p /srv/blog/current/site", "is a directory, and is to be a symlink; move it away"),
        ("sed -i s#/srv/blog/#/opt/blog/# /etc/gitopsd/gitopsd.yaml", "ReadWritePaths=/opt/blog"),
    ],
)
def test_what_would_keep_a_release_from_going_live_is_told_before_the_push(host: Host, trouble: str, told: str) -> None:
    add_repos(host, "blog", release=True)
    host.run("sh", "-c", "id ada >/dev/null 2>&1 || useradd ada")
    host.run("sh", "-c", trouble)
    found = problems(host)
    assert len(found) == 1, found
    assert told in found[0]


def test_a_unit_that_has_no_place_for_a_mirror_is_told(host: Host) -> None:
    add_repos(host, "blog", release=True)
    drop_in(host, UNIT, "[Service]\nStateDirectory=\nStateDirectory=gitopsd/logs/%I\n")
    (found,) = problems(host)
    assert "does not let it write in /var/lib/gitopsd/mirrors/blog; " in found
    drop_in(host, UNIT, "[Service]\nProtectSystem=no\n")
    assert problems(host) == []


def test_signers_that_a_deploy_could_name_itself_are_told(host: Host) -> None:
    signers = "/etc/gitopsd/allowed_signers"
    add_repos(host, "blog")
    settings = yaml.safe_load(host.read("/etc/gitopsd/gitopsd.yaml"))
    settings["repos"]["blog"] |= {"verify": "ssh", "allowed_signers": signers}
    host.configure(settings)
    assert problems(host) == [f"✗ blog: allowed_signers {signers}: is not there"]
    host.write(signers, "me ssh-ed25519 AAAA\n", mode=0o644)
    assert problems(host) == []
    host.run("chown", "gitopsd-sync", signers)
    (found,) = problems(host)
    assert f"{signers} can be written by gitopsd-sync, and so by what is deployed" in found
    host.run("chown", "root", signers)
    host.run("chmod", "0600", signers)
    (found,) = problems(host)
    assert "cannot be read by gitopsd-sync" in found


def test_of_the_secrets_of_a_receiver_init_makes_the_first(host: Host) -> None:
    add_repos(host, "blog", settings={"receivers": {"default": {"provider": "github", "secrets": ["old", "new"]}}})
    first, second = problems(host)
    assert first.endswith("run: gitopsd init")
    assert "write it, for root alone" in second


def test_a_secret_may_be_encrypted_and_be_rotated_with_two_names(host: Host) -> None:
    add_repos(host, "blog", settings={"receivers": {"default": {"provider": "github", "secrets": ["old", "new"]}}})
    host.write("/etc/gitopsd/secrets/old", "the old one", mode=0o600)
    encrypt = "systemd-creds encrypt --with-key=host --name=new - /etc/gitopsd/new.cred"
    host.run("sh", "-c", encrypt, input="the new one")
    drop_in(host, "gitopsd.service", "[Service]\nLoadCredentialEncrypted=new:/etc/gitopsd/new.cred\n")
    assert problems(host) == []
    switch_on(host)
    for secret, status in (("the old one", 202), ("the new one", 202), ("neither", 401)):
        revision = host.push("blog")
        assert host.deliver("blog", revision, secret=secret).status == status
        if status == 202:
            wait_until_deployed(host, "blog", revision)


def test_a_daemon_that_does_not_start_stands_in_status(host: Host) -> None:
    add_repos(host, "blog")
    switch_on(host)
    host.run("mv", "/etc/gitopsd/secrets", "/etc/gitopsd/secrets-moved")
    host.run("systemctl", "start", "gitopsd.service", check=False)
    host.wait_for(lambda: "gitopsd.service does not start" in host.run("gitopsd", "status").stdout, "the trouble")
    assert is_active(host, "gitopsd.socket")
    host.run("mv", "/etc/gitopsd/secrets-moved", "/etc/gitopsd/secrets")
    revision = host.push("blog")
    assert host.deliver("blog", revision).status == 202
    wait_until_deployed(host, "blog", revision)


def test_the_remote_is_asked_as_the_sync_asks_it_and_not_as_root(host: Host) -> None:
    add_repos(host, "blog")
    let_in_by_key(host, key="/root/.ssh/id_ed25519")  # root's own key would do, and is not the sync's
    host.run("sed", "-i", "s#url: /srv#url: ssh://root@127.0.0.1/srv#", "/etc/gitopsd/gitopsd.yaml")
    found = problems(host)
    assert len(found) == 1, found
    assert "Permission denied" in found[0]
    assert "there is no key for it: /etc/gitopsd/keys/blog" in found[0]

    host.run("mv", "/root/.ssh/id_ed25519", "/etc/gitopsd/keys/blog")
    assert problems(host) == []

    host.run("rm", "/etc/ssh/ssh_known_hosts")
    assert "ssh-keyscan 127.0.0.1 >> " in problems(host)[0]


def test_who_is_not_root_is_told_to_ask_root(host: Host) -> None:
    add_repos(host, "blog")
    host.run("sh", "-c", "id ada >/dev/null 2>&1 || useradd ada")
    said = host.run("gitopsd", "check", user="ada", check=False).stdout
    assert "run: sudo gitopsd check" in said
    assert "/srv/blog" not in said


def test_a_closed_receiver_stands_in_status_before_the_first_delivery(host: Host) -> None:
    add_repos(host, "blog")
    switch_on(host)
    host.write(SECRET_FILE, "", mode=0o600)
    status = host.run("gitopsd", "status").stdout
    assert "receiver 'default' is closed" in status
    assert "run: gitopsd init" in status
    assert "is the secret the same at the provider" not in status
