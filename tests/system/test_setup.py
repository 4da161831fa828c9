"""`gitopsd init`, `add` and `remove`: from nothing to a deploy, and back."""

import json
import re
import shlex
import stat
from typing import Any

import pytest

from tests.system.host import CONFIG, SECRET_FILE, Host
from tests.system.operator import daemon_pid, drop_in, let_in_by_key, switch_on, wait_for_job, wait_until_deployed

BLOG_FILE = "/etc/gitopsd/conf.d/blog.yaml"
BLOG_KEY = "/etc/gitopsd/keys/blog"
NEXT_FILE = f"{SECRET_FILE}.next"

of_one_release = pytest.mark.parametrize("release", ["debian13"])
"""For what has to do with our own files alone, and nothing with the version of systemd or ssh."""


def run(host: Host, command: str, **more: Any) -> str:
    """What the command prints; it has to end well."""
    return host.run(*shlex.split(command), **more).stdout


def refusal(host: Host, command: str, code: int = 1) -> str:
    """What the command says when it does not do what it was asked for."""
    ended = host.run(*shlex.split(command), check=False)
    assert ended.returncode == code, ended
    assert "Traceback" not in ended.stderr
    return ended.stderr.strip()


def at_terminal(host: Host, command: str, answer: str) -> str:
    """What a person sees who types the command at a terminal, and then the answer."""
    said = host.run("script", "--quiet", "--command", command, "/dev/null", input=answer).stdout
    return re.sub(r"\x1b\[[0-9;]*m", "", said)


def secret_shown(text: str) -> str:
    found = re.search(r"^  Secret +(\S+)$", text, re.MULTILINE)
    assert found, text
    return found[1]


@pytest.fixture
def remote(host: Host) -> str:
    """The URL of a remote called blog."""
    return host.add_remote("blog")


def over_ssh(host: Host, url: str) -> str:
    """The same remote over ssh, to which nobody has a key yet."""
    let_in_by_key(host, key="/root/.ssh/other")
    host.run("rm", "/root/.ssh/other", "/root/.ssh/authorized_keys")
    return f"ssh://root@127.0.0.1{url}"


def let_in(host: Host) -> None:
    """What pasting the key at the provider does."""
    public = host.run("ssh-keygen", "-y", "-f", BLOG_KEY).stdout
    host.write("/root/.ssh/authorized_keys", public, mode=0o600)


def two_receivers(host: Host, *, forge: str = "shared") -> tuple[str, str]:
    """Receivers ci and forge, whose secrets are `shared` and `forge`, with a repo blog; old and new of `shared`."""
    url = host.add_remote("blog")
    receivers = {"ci": ["shared"], "forge": [forge]}
    settings = {name: {"provider": "github", "secrets": secrets} for name, secrets in receivers.items()}
    host.write(CONFIG, json.dumps({"receivers": settings, "repos": {"blog": {"url": url, "path": "/srv/blog"}}}))
    run(host, "gitopsd init")
    switch_on(host)
    run(host, "gitopsd init --rotate")
    return host.read("/etc/gitopsd/secrets/shared").strip(), host.read("/etc/gitopsd/secrets/shared.next").strip()


def ping(host: Host, secret: str, receiver: str = "") -> int:
    """The answer to a ping that is signed with `secret`."""
    path = f"/hook/{receiver}" if receiver else "/api/webhook/gitops"
    return host.deliver("blog", "", event="ping", secret=secret, path=path).status


# ------------------------------------------------------------------------------------------------------ init


def test_a_secret_is_made_for_root_alone_and_shown_with_what_else_is_to_be_pasted(host: Host) -> None:
    host.run("rm", "-f", SECRET_FILE)
    said = run(host, "gitopsd init --host hooks.example.org")
    secret = host.read(SECRET_FILE).strip()
    assert re.fullmatch("[0-9a-f]{64}", secret)
    assert secret_shown(said) == secret
    assert run(host, f"stat --format '%a %U' {SECRET_FILE}").split() == ["600", "root"]
    assert "https://hooks.example.org/api/webhook/gitops" in said
    assert "application/json" in said
    assert "push event" in said


@of_one_release
def test_made_again_nothing_changes_and_the_same_is_shown(host: Host) -> None:
    host.run("rm", "-f", SECRET_FILE)
    first = run(host, "gitopsd init")
    assert run(host, "gitopsd init") == first.replace("made just now", "as it was")


@of_one_release
def test_what_is_shown_for_tunnels_exposes_the_hook_path_and_nothing_else(host: Host) -> None:
    said = run(host, "gitopsd init --host h.example")
    pattern = re.search(r"hostname h\.example, path (\S+), service http://127\.0\.0\.1:8085$", said, re.MULTILINE)
    assert pattern, said
    assert re.search(pattern[1], "/api/webhook/gitops")
    for other in ("/", "/readyz", "/api/webhook/gitops/more", "/x/api/webhook/gitops"):
        assert not re.search(pattern[1], other)
    assert "--set-path=/api/webhook/gitops http://127.0.0.1:8085/api/webhook/gitops" in said
    assert "http_status:404" in said
    assert "URL is then https://HOST.TAILNET.ts.net/api/webhook/gitops\n" in said


@of_one_release
def test_where_no_name_is_given_it_is_said_how_it_gets_in(host: Host) -> None:
    assert "gitopsd init --host NAME" in run(host, "gitopsd init")
    assert "gitopsd init --host NAME" not in run(host, "gitopsd init --host h.example")


@of_one_release
def test_the_two_commands_for_a_token_do_not_follow_each_other(host: Host) -> None:
    lines = run(host, "gitopsd init").splitlines()
    written = next(number for number, line in enumerate(lines) if "/etc/gitopsd/tunnel-token" in line)
    assert "Ctrl-D" in lines[written + 1]
    assert lines[written + 2].strip() == "systemctl start gitopsd-tunnel"


@of_one_release
def test_each_receiver_gets_a_secret_and_a_path_of_its_own(host: Host) -> None:
    receivers = {name: {"provider": "github", "secrets": [f"{name}-secret"]} for name in ("ci", "forge")}
    host.configure({"receivers": receivers})
    said = run(host, "gitopsd init")
    assert host.read("/etc/gitopsd/secrets/ci-secret") != host.read("/etc/gitopsd/secrets/forge-secret")
    assert "/hook/ci\n" in said
    assert "/hook/forge\n" in said
    assert "path ^(/hook/ci|/hook/forge)$" in said
    of_one = run(host, "gitopsd init ci")
    assert "https://YOUR.HOST/hook/ci\n" in of_one
    assert "https://YOUR.HOST/hook/forge" not in of_one
    assert "path ^(/hook/ci|/hook/forge)$" in of_one  # who replaces a route needs all of it
    assert "known: ci, forge" in refusal(host, "gitopsd init blog")


@of_one_release
def test_what_is_shown_fits_the_provider_and_the_header_that_was_chosen(host: Host) -> None:
    settings = {
        "ci": {"provider": "generic-hmac", "header": "X-Mine"},
        "azure": {"provider": "azure-devops", "header": "X-Azure"},
        "open": {"provider": "generic"},
        "standard": {"provider": "standard-webhooks"},
    }
    receivers = {name: {**each, "secrets": [f"{name}-secret"]} for name, each in settings.items()}
    host.configure({"receivers": receivers})
    said = run(host, "gitopsd init --host h.example")
    value = {name: host.read(f"/etc/gitopsd/secrets/{name}-secret").strip() for name in settings}
    assert "X-Mine: sha256=" in said
    assert "X-Signature" not in said
    assert f"X-Azure: {value['azure']}\n" in said
    assert f"https://h.example/hook/open/{value['open']}\n" in said
    assert value["standard"].startswith("whsec_")
    assert "path ^(/hook/azure|/hook/ci|/hook/open/[^/]+|/hook/standard)$" in said


@of_one_release
def test_an_empty_secret_is_replaced(host: Host) -> None:
    host.write(SECRET_FILE, "\n", mode=0o600)
    assert secret_shown(run(host, "gitopsd init")) == host.read(SECRET_FILE).strip() != ""


@of_one_release
def test_only_root_may_make_a_secret(host: Host) -> None:
    ended = host.run("gitopsd", "init", user="nobody", check=False)
    assert ended.returncode == 1
    assert ended.stderr.strip() == "gitopsd: only root may write secrets; run: sudo gitopsd init"


@of_one_release
def test_without_units_it_says_how_a_secret_is_given(host: Host) -> None:
    host.write(CONFIG, "runner: local\n")
    assert "export GITHUB_WEBHOOK_SECRET=" in refusal(host, "gitopsd init")


def test_a_rotation_accepts_both_secrets_and_ends_once_every_sender_has_the_new_one(host: Host, remote: str) -> None:
    host.run("rm", "-f", SECRET_FILE)
    old = secret_shown(run(host, "gitopsd init"))
    run(host, f"gitopsd add {remote}")
    switch_on(host)
    said = run(host, "gitopsd init --rotate")
    assert "At GitHub, in each webhook that is there, in place of the old one:\n  Secret  " in said
    assert "Payload URL" not in said
    new = host.read(NEXT_FILE).strip()
    assert secret_shown(run(host, "gitopsd init --rotate")) == new
    assert host.read(SECRET_FILE).strip() == old != new

    revision = host.push("blog")
    assert "nothing was signed with the new secret" in refusal(host, "gitopsd init --finish")
    assert host.deliver("blog", revision, secret=old).status == 202
    assert "still signed with the old secret 'github-webhook-secret': blog" in refusal(host, "gitopsd init --finish")
    assert host.deliver("blog", revision, secret=new).status in (200, 202)
    run(host, "gitopsd init --finish")

    assert host.read(SECRET_FILE).strip() == new
    assert not host.exists(NEXT_FILE)
    assert host.deliver("blog", revision, secret=old).status == 401
    assert host.deliver("blog", revision, secret=new).status in (200, 202)
    assert "no secret is being rotated" in refusal(host, "gitopsd init --finish")


@of_one_release
def test_who_was_not_heard_of_during_a_rotation_is_named_at_its_end(host: Host, remote: str) -> None:
    run(host, "gitopsd init")
    run(host, f"gitopsd add {remote}")
    run(host, f"gitopsd add {host.add_remote('shop')}")
    switch_on(host)
    run(host, "gitopsd init --rotate")
    new = host.read(NEXT_FILE).strip()
    assert host.deliver("blog", host.push("blog"), secret=new).status == 202
    assert "Not heard from since it began: shop." in run(host, "gitopsd init --finish")


@of_one_release
def test_a_secret_that_two_receivers_share_is_rotated_once_and_for_both(host: Host) -> None:
    old, new = two_receivers(host)
    assert ping(host, new, "ci") == 200
    assert ping(host, old, "forge") == 200
    for command in ("gitopsd init --finish", "gitopsd init --finish ci"):
        assert "still signed with the old secret 'shared': blog" in refusal(host, command)
    assert ping(host, new, "forge") == 200
    run(host, "gitopsd init --finish")
    assert [ping(host, secret, name) for secret in (old, new) for name in ("ci", "forge")] == [401, 401, 200, 200]


@of_one_release
def test_a_rotation_that_one_receiver_is_not_ready_for_changes_none(host: Host) -> None:
    _, new = two_receivers(host, forge="other")
    assert ping(host, new, "ci") == 200
    assert "nothing was signed with the new secret 'other' yet" in refusal(host, "gitopsd init --finish")
    assert host.read("/etc/gitopsd/secrets/shared.next").strip() == new
    run(host, "gitopsd init --finish ci")
    assert host.exists("/etc/gitopsd/secrets/other.next")


@of_one_release
@pytest.mark.parametrize("cut_off", ["install -m 600 /dev/null {next}; echo second >{next}", "mv {next} {old}"])
def test_what_was_cut_off_before_the_daemon_knew_of_it_is_made_good(host: Host, remote: str, cut_off: str) -> None:
    run(host, "gitopsd init")
    run(host, f"gitopsd add {remote}")
    switch_on(host)
    run(host, "gitopsd init --rotate")
    new = host.read(NEXT_FILE).strip()
    assert ping(host, new) == 200
    host.run("sh", "-c", cut_off.format(next=NEXT_FILE, old=SECRET_FILE))
    host.run("gitopsd", "init", "--rotate" if host.exists(NEXT_FILE) else "--finish", check=False)
    assert ping(host, "second" if host.exists(NEXT_FILE) else new) == 200
    assert (ping(host, new) == 401) == host.exists(NEXT_FILE)


@of_one_release
def test_pings_tell_that_a_webhook_has_moved_on_too(host: Host, remote: str) -> None:
    old = secret_shown(run(host, "gitopsd init"))
    run(host, f"gitopsd add {remote}")
    switch_on(host)
    run(host, "gitopsd init --rotate")
    new = host.read(NEXT_FILE).strip()
    assert [ping(host, old), ping(host, new)] == [200, 200]
    run(host, "gitopsd init --finish")


@of_one_release
def test_a_rotation_needs_a_secret_to_begin_with(host: Host) -> None:
    host.run("rm", "-f", SECRET_FILE)
    assert "run: gitopsd init" in refusal(host, "gitopsd init --rotate")


def test_a_secret_that_a_drop_in_loads_encrypted_is_left_to_it(host: Host) -> None:
    host.run("rm", "-f", SECRET_FILE)
    load = "[Service]\nLoadCredentialEncrypted=github-webhook-secret:/etc/gitopsd/hook.cred\n"
    host.write("/etc/systemd/system/gitopsd.service.d/secret.conf", load)
    host.run("systemctl", "daemon-reload")
    assert "is given as 'github-webhook-secret', by a drop-in" in run(host, "gitopsd init")
    assert not host.exists(SECRET_FILE)
    assert "rotate it where it is set" in refusal(host, "gitopsd init --rotate")


@of_one_release
@pytest.mark.parametrize(
    "setting",
    [
        "LoadCredential=github-webhook-secret:/etc/gitopsd/elsewhere",
        "Environment=GITHUB_WEBHOOK_SECRET=elsewhere",
        "EnvironmentFile=/etc/gitopsd/environment",
    ],
)
def test_a_secret_that_the_daemon_has_from_elsewhere_is_neither_replaced_nor_shown(host: Host, setting: str) -> None:
    host.run("rm", "-f", SECRET_FILE)
    host.write("/etc/gitopsd/elsewhere", "elsewhere", mode=0o600)
    host.write("/etc/gitopsd/environment", "GITHUB_WEBHOOK_SECRET=elsewhere\n", mode=0o600)
    drop_in(host, "gitopsd.service", f"[Service]\n{setting}\n")
    switch_on(host)
    assert ping(host, "elsewhere") == 200
    run(host, "gitopsd init")
    assert ping(host, "elsewhere") == 200


@of_one_release
def test_a_tunnel_is_told_the_host_without_a_port_and_the_socket_as_it_is(host: Host) -> None:
    drop_in(host, "gitopsd.socket", "[Socket]\nListenStream=\nListenStream=/run/gitopsd.sock\n")
    said = run(host, "gitopsd init --host h.example:8443")
    assert "https://h.example:8443/api/webhook/gitops" in said
    assert "hostname h.example, path ^/api/webhook/gitops$, service unix:/run/gitopsd.sock\n" in said


# ------------------------------------------------------------------------------------------------------- add


def test_two_commands_after_the_secret_a_push_is_deployed(host: Host, remote: str) -> None:
    host.run("rm", "-f", SECRET_FILE)
    secret = secret_shown(run(host, "gitopsd init"))
    run(host, f"gitopsd add {remote}")
    switch_on(host)
    revision = host.push("blog")
    assert host.deliver("blog", revision, secret=secret).status == 202
    wait_until_deployed(host, "blog", revision)


def test_a_repo_is_taken_up_by_a_daemon_that_runs(host: Host, remote: str) -> None:
    secret = secret_shown(run(host, "gitopsd init"))
    switch_on(host)
    assert host.deliver("blog", "", event="ping", secret=secret).status == 200
    pid = daemon_pid(host)
    run(host, f"gitopsd add {remote}")
    revision = host.push("blog")
    host.wait_for(lambda: host.deliver("blog", revision, secret=secret).status == 202, "the reload")
    wait_until_deployed(host, "blog", revision)
    assert daemon_pid(host) == pid


@of_one_release
def test_added_again_nothing_changes(host: Host, remote: str) -> None:
    run(host, f"gitopsd add {remote}")
    text = host.read(BLOG_FILE)
    run(host, f"gitopsd add {remote} --name blog --ref refs/heads/main --path /srv/blog/")
    assert host.read(BLOG_FILE) == text
    host.run("git", "-C", remote, "branch", "trunk", "main")
    host.run("git", "-C", remote, "symbolic-ref", "HEAD", "refs/heads/trunk")
    run(host, f"gitopsd add {remote}")
    assert host.read(BLOG_FILE) == text


@of_one_release
def test_what_the_operator_wrote_into_its_file_stays(host: Host, remote: str) -> None:
    run(host, f"gitopsd add {remote}")
    host.write(BLOG_FILE, host.read(BLOG_FILE) + "    deploy: ['true']\n")
    text = host.read(BLOG_FILE)
    run(host, f"gitopsd add {remote}")
    assert host.read(BLOG_FILE) == text
    assert f"change that in {BLOG_FILE}" in refusal(host, f"gitopsd add {remote} --ref other")


@of_one_release
def test_it_is_shown_where_a_deploy_command_goes_until_there_is_one(host: Host, remote: str) -> None:
    said = run(host, f"gitopsd add {remote}")
    assert f"  editor {BLOG_FILE} " in said
    host.write(BLOG_FILE, host.read(BLOG_FILE).replace("# deploy: [./deploy.sh]", "deploy: ['true']"))
    assert "editor" not in run(host, f"gitopsd add {remote}")
    assert "deploy: true" in run(host, "gitopsd sync blog")


@of_one_release
def test_the_comments_on_what_is_next_begin_in_one_column(host: Host, remote: str) -> None:
    for command in ("gitopsd init", f"gitopsd add {remote}"):
        steps = run(host, command).partition("Next:\n")[2].splitlines()
        assert len({line.index("  # ") for line in steps if "  # " in line}) == 1


def test_a_remote_of_another_owner_is_told_with_the_line_that_trusts_it(host: Host, remote: str) -> None:
    host.run("rm", "/etc/gitconfig")
    trust = f"git config --file /var/lib/gitopsd-sync/.gitconfig --add safe.directory {remote}"
    said = host.run("gitopsd", "add", remote, check=False).stdout
    assert f"run: {trust}\n" in said
    assert said.endswith("again, once that is mended; or: gitopsd remove blog\n")
    assert f"run: {trust}\n" in host.run("gitopsd", "check", check=False).stdout
    run(host, trust)
    run(host, f"gitopsd add {remote}")
    assert run(host, "gitopsd sync blog")


@of_one_release
def test_the_branch_of_the_remote_is_followed_if_none_is_named(host: Host, remote: str) -> None:
    host.run("git", "-C", remote, "branch", "trunk", "main")
    host.run("git", "-C", remote, "symbolic-ref", "HEAD", "refs/heads/trunk")
    run(host, f"gitopsd add {remote}")
    run(host, f"gitopsd add {remote} --name other --ref main")
    run(host, f"gitopsd add {remote} --name third --strategy in-place --path /srv/sites/third/")
    assert "ref: trunk" in host.read(BLOG_FILE)
    assert "ref: trunk" in host.read("/etc/gitopsd/conf.d/third.yaml")
    assert "ref: main" in host.read("/etc/gitopsd/conf.d/other.yaml")


@of_one_release
def test_a_release_gets_a_directory_for_its_symlink_and_is_gone_through(host: Host, remote: str) -> None:
    run(host, f"gitopsd add {remote} --strategy release")
    assert "path: /srv/blog/current" in host.read(BLOG_FILE)
    assert run(host, "stat --format '%U %a' /srv/blog").strip() == "gitopsd-sync 755"
    assert not host.exists("/srv/blog/current")
    run(host, f"gitopsd add {remote}")  # as it is
    assert run(host, "gitopsd sync blog")
    assert run(host, "readlink /srv/blog/current").startswith(".current.releases/")
    assert host.exists("/srv/blog/current/README")
    said = run(host, "gitopsd remove blog --yes")
    assert "Stays: the releases in /srv/blog/.current.releases with the symlink /srv/blog/current, the mirror " in said
    assert "the mirror /var/lib/gitopsd/mirrors/blog, the history and the logs" in said
    assert host.exists("/srv/blog/current/README")


def test_a_remote_over_ssh_gets_a_key_that_is_shown_and_tried(host: Host, remote: str) -> None:
    url = over_ssh(host, remote)
    first = host.run("gitopsd", "add", url, check=False)
    assert first.returncode == 75  # the key is not at the provider yet
    assert host.run("ssh-keygen", "-y", "-f", BLOG_KEY).stdout.split()[1] in first.stdout
    assert "Permission denied" in first.stdout
    assert "follows main (until the remote says which branch is its own)" in first.stdout
    assert "as a deploy key of srv/remotes/blog (read access is enough)" in first.stdout
    assert "editor" not in first.stdout  # the branch is yet to be written into the file
    last = first.stdout.splitlines()[-1]
    assert re.fullmatch(
        f"  gitopsd add {url} +# again, once the deploy key above is pasted; or: gitopsd remove blog", last
    )
    assert stat.filemode(int(run(host, f"stat --format %f {BLOG_KEY}"), 16)) == "-rw-------"
    key = host.read(BLOG_KEY)
    let_in(host)
    second = run(host, f"gitopsd add {url}")
    assert "✓ blog: remote" in second
    assert "follows main of" in second
    assert "paste it at" not in second
    assert host.read(BLOG_KEY) == key
    assert run(host, "gitopsd sync blog")


@of_one_release
def test_the_branch_of_a_remote_that_lets_nobody_in_yet_is_found_later(host: Host, remote: str) -> None:
    host.run("git", "-C", remote, "branch", "trunk", "main")
    host.run("git", "-C", remote, "symbolic-ref", "HEAD", "refs/heads/trunk")
    url = over_ssh(host, remote)
    host.run("gitopsd", "add", url, check=False)
    let_in(host)
    run(host, f"gitopsd add {url}")
    assert "ref: trunk" in host.read(BLOG_FILE)


@of_one_release
def test_a_name_is_repeated_where_it_is_not_the_default(host: Host, remote: str) -> None:
    url = over_ssh(host, remote)
    said = host.run("gitopsd", "add", url, "--name", "weblog", check=False).stdout
    assert f"  gitopsd add {url} --name weblog  # again" in said


def test_a_host_key_is_shown_and_noted_down_only_if_a_person_says_it_is_right(host: Host, remote: str) -> None:
    url = over_ssh(host, remote)
    known = "/etc/ssh/ssh_known_hosts"
    host.run("rm", known)
    assert "ssh-keyscan 127.0.0.1 >> " in host.run("gitopsd", "add", url, check=False).stdout
    let_in(host)
    assert "SHA256:" in at_terminal(host, f"gitopsd add {url}", "n\n")
    assert not host.exists(known)
    host.run("sh", "-c", f"printf 'other.example ssh-ed25519 AAAA' >{known}")  # no line end
    assert "✓ blog: remote" in at_terminal(host, f"gitopsd add {url}", "y\n")
    other, *ours = host.read(known).splitlines()
    assert other == "other.example ssh-ed25519 AAAA"
    assert ours
    assert all(line.startswith("127.0.0.1 ") for line in ours)


@of_one_release
def test_what_the_other_side_says_beside_its_keys_is_not_noted_down(host: Host, remote: str) -> None:
    url = over_ssh(host, remote)
    known = "/etc/ssh/ssh_known_hosts"
    host.run("rm", known)
    scan = "#!/bin/sh\necho 'evil.example ssh-ed25519 AAAA' >&2\necho 'github.com ssh-ed25519 AAAA'\n"
    host.write("/usr/local/bin/ssh-keyscan", scan, mode=0o755)
    try:
        assert "shows no host key" in at_terminal(host, f"gitopsd add {url}", "y\n")
    finally:
        host.run("rm", "/usr/local/bin/ssh-keyscan")
    assert not host.exists(known)


@of_one_release
@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        ("https://me:token@example.org/blog.git", "holds credentials", 78),
        ("/srv/remotes/blog.git --path srv/blog", "repos.blog.path", 78),
        ("/srv/remotes/blog.git --strategy guess", "repos.blog.strategy", 78),
        ("/srv/remotes/blog.git --name Blog!", "repos.Blog!", 78),
        ("https://example.org/-.git", "give one: --name NAME", 1),
        ("/srv/remotes/shop.git --name taken", "is taken by", 1),
        ("ssh://h:99999/x", "Port out of range", 1),
        ("'ssh://[::1/y'", "Invalid IPv6 URL", 1),
        ("./blog.git", "relative to this directory", 1),
        ("/srv/remotes/blog.git --path /srv/remotes/blog.git/HEAD/x", "HEAD is not a directory", 1),
        ("file:///srv/remotes/blog.git --name taken --path /srv/other", "taken is configured already", 1),
    ],
)
def test_what_cannot_be_right_is_refused_and_leaves_nothing_behind(
    host: Host, remote: str, arguments: str, told: str, code: int
) -> None:
    run(host, f"gitopsd add {remote} --name taken")
    before = run(host, "find /etc/gitopsd /srv -newer /etc/gitopsd/conf.d/taken.yaml")
    assert told in refusal(host, f"gitopsd add {arguments}", code)
    assert run(host, "find /etc/gitopsd /srv -newer /etc/gitopsd/conf.d/taken.yaml") == before


@of_one_release
def test_only_root_may_add_and_remove_repos(host: Host, remote: str) -> None:
    run(host, f"gitopsd add {remote}")
    for command in (f"add {remote}", "remove blog --yes"):
        ended = host.run("gitopsd", *command.split(), user="nobody", check=False)
        assert ended.returncode == 1
        assert f"run: sudo gitopsd {command.removesuffix(' --yes')}" in ended.stderr


@of_one_release
def test_a_checkout_that_is_there_keeps_its_owner_and_the_remedy_is_told(host: Host, remote: str) -> None:
    host.run("install", "-d", "-o", "daemon", "/srv/blog")
    ended = host.run("gitopsd", "add", remote, check=False)
    assert ended.returncode == 75
    assert "chown -R gitopsd-sync /srv/blog" in ended.stdout
    assert run(host, "stat --format %U /srv/blog").strip() == "daemon"


# ---------------------------------------------------------------------------------------------------- remove


def test_a_repo_is_removed_after_a_question_and_its_checkout_stays(host: Host, remote: str) -> None:
    run(host, "gitopsd init")
    run(host, f"gitopsd add {remote}")
    run(host, "gitopsd sync blog")
    assert "Nothing was removed" in at_terminal(host, "gitopsd remove blog", "\n")
    assert host.exists(BLOG_FILE)
    assert "blog is removed" in at_terminal(host, "gitopsd remove blog", "y\n")
    assert not host.exists(BLOG_FILE)
    assert host.exists("/srv/blog/README")
    assert "there is no repo 'blog'" in refusal(host, "gitopsd remove blog --yes")


@of_one_release
def test_a_directory_with_nothing_in_it_is_no_checkout_and_goes_too(host: Host, remote: str) -> None:
    run(host, f"gitopsd add {remote}")
    said = run(host, "gitopsd remove blog --yes")
    assert "/srv/blog (empty)" in said
    assert "Stays: the history and the logs" in said
    assert not host.exists("/srv/blog")


@of_one_release
def test_where_nobody_can_be_asked_nothing_is_removed(host: Host, remote: str) -> None:
    run(host, f"gitopsd add {remote}")
    assert "give --yes" in refusal(host, "gitopsd remove blog", 2)
    assert host.exists(BLOG_FILE)


@of_one_release
def test_the_key_of_a_removed_repo_goes_with_it(host: Host, remote: str) -> None:
    url = over_ssh(host, remote)
    host.run("gitopsd", "add", url, check=False)
    run(host, "gitopsd remove blog --yes")
    assert run(host, "ls -A /etc/gitopsd/keys") == ""


@of_one_release
def test_a_repo_that_no_receiver_may_trigger_is_told(host: Host, remote: str) -> None:
    receiver = {"provider": "github", "secrets": ["github-webhook-secret"], "repos": ["shop"]}
    host.configure({"receivers": {"default": receiver}})
    assert "name blog under repos: of its receiver" in run(host, f"gitopsd add {remote}")


@of_one_release
def test_a_file_that_holds_more_is_left_to_the_operator(host: Host, remote: str) -> None:
    run(host, f"gitopsd add {remote}")
    text = host.read(BLOG_FILE) + f"  shop:\n    url: {remote}\n    path: /srv/shop\n"
    host.write(BLOG_FILE, text)
    assert f"{BLOG_FILE} holds more than blog" in refusal(host, "gitopsd remove blog --yes")
    assert host.read(BLOG_FILE) == text


def test_a_removed_repo_is_not_deployed_any_more_and_can_come_back(host: Host, remote: str) -> None:
    secret = secret_shown(run(host, "gitopsd init"))
    run(host, f"gitopsd add {remote}")
    switch_on(host)
    assert host.deliver("blog", host.push("blog"), secret=secret).status == 202
    wait_for_job(host, "blog", "succeeded")
    run(host, "gitopsd remove blog --yes")
    revision = host.push("blog")
    answer = host.wait_for(lambda: [host.deliver("blog", revision, secret=secret, delivery="x")], "an answer")[0]
    assert answer.status == 200
    assert "no repo is configured" in answer.payload["reason"]
    run(host, f"gitopsd add {remote}")
    run(host, "gitopsd sync blog")
    wait_until_deployed(host, "blog", revision)


@of_one_release
def test_what_a_removal_does_not_end_is_said(host: Host, remote: str) -> None:
    run(host, f"gitopsd add {remote}")
    run(host, "gitopsd sync blog")
    host.run("touch", "/srv/blog/.gitops")
    host.write("/etc/gitopsd/conf.d/roots.yaml", "roots: [/srv]\n")
    assert "it has a file /srv/blog/.gitops" in run(host, "gitopsd remove blog --yes")
    assert "remove that file" in refusal(host, "gitopsd remove blog --yes")
