"""A webhook secret is in the daemon and nowhere else: not in a child, a log, an answer, an output or a file."""

import contextlib
import json
import shutil
import signal
from pathlib import Path

import pytest

from tests.site import Site, signed_headers, wait_for

HOOK = "/api/webhook/gitops"
NEEDLE = "needle-9b1f27c4e0"

# Real git, and a note of what it was told.
GIT = """#!/bin/bash
{ printf '%s\\n' "git $*"; env; } >> "$(dirname "$0")/told"
exec "$(dirname "$0")/real-git" "$@"
"""


class Haystack:
    """A site whose daemon has the secret, from a credential file or from its environment."""

    def __init__(self, site: Site, source: str) -> None:
        self.site = site
        self.credentials = site.root / "credentials"
        self.tools = site.root / "tools"
        self.gate = site.root / "gate"
        self.tools.mkdir()
        git = shutil.which("git")
        assert git is not None
        (self.tools / "real-git").symlink_to(git)
        (self.tools / "git").write_text(GIT)
        (self.tools / "git").chmod(0o755)
        site.environment |= {"PATH": f"{self.tools}:{site.environment['PATH']}", "CANARY": "canary"}
        del site.environment["GITHUB_WEBHOOK_SECRET"]
        if source == "credential":
            self.credentials.mkdir()
            (self.credentials / "github-webhook-secret").write_text(f"{NEEDLE}\n")
            site.environment["CREDENTIALS_DIRECTORY"] = str(self.credentials)
        else:
            site.environment["GITHUB_WEBHOOK_SECRET"] = NEEDLE
        deploy = (
            f'env > ../told; echo out; while [ ! -e "{self.gate}" ]; do sleep 0.01; done; exit "$(cat "{self.gate}")"'
        )
        self.remote = site.add_repo("blog", deploy=deploy)

    def deliver(self, secret: str = NEEDLE) -> int:
        return self.site.deliver("blog", self.remote.tip(), secret=secret).status

    def told(self, place: Path) -> str:
        """What a child found in its environment; the canary shows that it was written down."""
        text = (place / "told").read_text()
        assert "CANARY=canary" in text
        return text

    def children(self, daemon: int) -> dict[str, str]:
        """Command line → environment of every process of this site but the daemon."""
        found = {}
        for pid in self.site.processes():
            place = Path("/proc") / str(pid)
            try:
                command, environment = (place / "cmdline").read_bytes(), (place / "environ").read_bytes()
            except OSError:
                continue
            if pid != daemon:
                found[command.replace(b"\0", b" ").decode()] = environment.decode()
        return found


@pytest.fixture(params=["environment", "credential"])
def haystack(site: Site, request: pytest.FixtureRequest) -> Haystack:
    return Haystack(site, request.param)


def test_no_child_of_the_daemon_is_told_a_secret_or_where_it_is(haystack: Haystack) -> None:
    site = haystack.site
    daemon = site.start()
    assert haystack.deliver() == 202
    deployed = site.checkout("blog").parent
    wait_for((deployed / "told").exists, "the deploy command")

    children = haystack.children(daemon)

    for kind in (" run blog", "gitops_sync.sh blog", "/deploy.sh "):
        assert any(kind in command for command in children), children.keys()
    for command, environment in children.items():
        assert "CANARY=canary" in environment
        assert NEEDLE not in command + environment
        assert "CREDENTIALS_DIRECTORY" not in environment
    assert NEEDLE not in (Path("/proc") / str(daemon) / "cmdline").read_text()
    haystack.gate.write_text("0")
    site.wait_for_job("blog", "succeeded")
    for told in (haystack.told(deployed), haystack.told(haystack.tools)):
        assert NEEDLE not in told
        assert "CREDENTIALS_DIRECTORY" not in told


def test_a_git_that_is_asked_about_an_opted_in_checkout_is_not_told_a_secret(haystack: Haystack) -> None:
    site = haystack.site
    checkout = site.root / "roots" / "shop"
    shutil.copytree(haystack.remote.work, checkout)
    (checkout / ".gitops").touch()
    site.settings["roots"] = [str(checkout.parent)]
    site.write_config()
    site.start()
    (checkout / ".git" / "config").touch()
    site.deliver("unheard-of", "1" * 40, secret=NEEDLE)  # has the daemon look again
    told = (haystack.tools / "told").read_text()
    assert "git config" in told
    assert NEEDLE not in told
    assert "CREDENTIALS_DIRECTORY" not in told


def test_a_git_that_a_check_asks_about_a_remote_is_not_told_a_secret(haystack: Haystack) -> None:
    assert haystack.site.run("check").returncode == 0
    told = haystack.told(haystack.tools)
    assert " ls-remote " in told
    assert NEEDLE not in told
    assert "CREDENTIALS_DIRECTORY" not in told


def test_a_sync_by_hand_does_not_hand_on_a_secret_either(haystack: Haystack) -> None:
    haystack.gate.write_text("0")
    assert haystack.site.run("sync", "blog").returncode == 0
    for place in (haystack.site.checkout("blog").parent, haystack.tools):
        assert NEEDLE not in haystack.told(place)
        assert "CREDENTIALS_DIRECTORY" not in haystack.told(place)


def test_a_secret_that_was_taken_out_of_the_configuration_stays_hidden(site: Site) -> None:
    haystack = Haystack(site, "environment")
    site.environment["NEXT_SECRET"] = "next"
    daemon = site.start()
    site.settings["receivers"] = {"default": {"provider": "github", "secrets": ["next-secret"]}}
    site.write_config()
    site.signal(signal.SIGHUP)
    wait_for(lambda: haystack.deliver("next") == 202, "the new configuration")
    deployed = site.checkout("blog").parent
    wait_for((deployed / "told").exists, "the deploy command")
    for command, environment in haystack.children(daemon).items():
        assert NEEDLE not in environment, command
        assert "NEXT_SECRET" not in environment, command
    haystack.gate.write_text("0")
    site.wait_for_job("blog", "succeeded")


def test_no_log_answer_output_or_file_has_a_secret(site: Site) -> None:
    haystack = Haystack(site, "credential")
    said = bytearray()
    haystack.gate.write_text("1")
    site.settings["retry"] = {"tries": 1}
    site.settings["receivers"] = {
        "default": {"provider": "github", "secrets": ["github-webhook-secret", "missing-secret"]},
        "shut": {"provider": "github", "secrets": ["missing-secret"]},
    }
    site.write_config()
    site.start()
    body = json.dumps({"ref": NEEDLE}).encode()
    wrong = {"Content-Type": "application/json", "X-GitHub-Event": "push", "X-GitHub-Delivery": NEEDLE}
    for signature in ("", NEEDLE, f"sha256={NEEDLE}", f"sha256={NEEDLE.encode().hex():0<64}"):
        for path in (HOOK, f"{HOOK}?secret={NEEDLE}", f"/hook/{NEEDLE}", "/hook/shut"):
            headers = wrong | {"X-Hub-Signature-256": signature, "X-Gitlab-Token": NEEDLE, "Authorization": NEEDLE}
            said += site.request("POST", path, body, headers).body
    said += site.request("POST", HOOK, b"[", signed_headers(b"[", secret=NEEDLE)).body
    for path in ("/healthz", "/readyz", f"/{NEEDLE}", f"/hook/{NEEDLE}"):
        said += site.get(path).body
    assert haystack.deliver() == 202
    site.wait_for_job("blog", "failed")
    haystack.gate.write_text("0")
    site.run("sync", "blog", "--json")
    commands = (("status",), ("history",), ("why", "blog"), ("check", "--offline"))
    for words in (*((*words, "--json") for words in commands), ("status",), ("sync", "blog"), ("logs", "blog")):
        done = site.run(*words)
        said += (done.stdout + done.stderr).encode()
    site.config_path.write_text("receivers: {default: {provider: github}}\nretries: 1")
    site.signal(signal.SIGHUP)
    wait_for(lambda: "stays in force" in site.log(), "the complaint")
    site.stop()

    assert b"missing-secret" in said  # the names are said
    assert NEEDLE.encode() not in said
    assert "missing-secret" in site.log()
    assert len(list(site.state_dir.rglob("*.log"))) >= 2
    for file in site.root.rglob("*"):
        assert NEEDLE not in file.name
        if file.is_file() and haystack.credentials not in file.parents:
            assert NEEDLE.encode() not in file.read_bytes(), file


def test_the_configuration_in_force_is_in_no_file_but_its_own(site: Site) -> None:
    gate, began = site.root / "gate", site.root / "began"
    remote = site.add_repo("blog", deploy=f"touch '{began}'; while [ ! -e '{gate}' ]; do sleep 0.01; done")
    site.settings["repos"]["shop"] = {"url": f"git@example.org:{NEEDLE}.git", "path": str(site.root / "shop")}
    site.write_config()
    site.config_path.chmod(0o600)  # it may hold what is not for everybody, such as addresses
    site.start()
    site.deliver("blog", remote.tip())
    wait_for(began.exists, "the deploy command")
    having = [file for file in site.root.rglob("*") if file.is_file() and NEEDLE.encode() in file.read_bytes()]
    assert having == [site.config_path]
    for pid in site.processes():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a `sleep` of the deploy that has just ended
            command = (Path("/proc") / str(pid) / "cmdline").read_bytes()
            holds = any("memfd:" in str(fd.readlink()) for fd in (Path("/proc") / str(pid) / "fd").iterdir())
            assert holds == command.endswith(b"\0run\0blog\0"), command
    gate.touch()
    site.wait_for_job("blog", "succeeded")
