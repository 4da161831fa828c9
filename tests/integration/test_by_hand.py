"""Without systemd: what the README tells to type works, and what `add` and the parser say then."""

import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.remote import Remote
from tests.site import WAIT_SEC, Site

TOP = Path(__file__).parents[2]


def blocks() -> list[str]:
    """What a reader is to paste: to start it, and to try it."""
    text = (TOP / "README.md").read_text(encoding="utf-8")
    part = text[text.index("Without systemd, or to try it") : text.index("Without `--config`")]
    return re.findall(r"^```sh\n(.*?)^```", part, re.MULTILINE | re.DOTALL)


def test_what_the_readme_tells_to_type_deploys_a_delivery(site: Site) -> None:
    remote = Remote.create(site.root / "remotes" / "blog")
    checkout = site.root / "checkout"
    subprocess.run(["git", "clone", "--quiet", remote.url, checkout], env=site.environment, check=True)
    (checkout / ".venv").symlink_to(TOP / ".venv")
    (checkout / "scripts").symlink_to(TOP / "scripts")
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    begin, try_it = (text.replace("8085", str(port)) for text in blocks())
    begin = begin.replace("./scripts/bootstrap.sh", ":")
    answers = f"until (: </dev/tcp/127.0.0.1/{port}) 2>/dev/null; do :; done"
    ended = "until .venv/bin/gitopsd --config gitopsd.yaml status | grep -q succeeded; do :; done"
    script = f"set -em; trap 'kill %1' EXIT\n{begin}\n{answers}\n{try_it}\n{ended}\n"

    done = subprocess.run(
        ["timeout", str(2 * WAIT_SEC), "bash", "-c", script],
        cwd=checkout,
        env=site.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout
    assert re.search("^202 ", done.stdout, re.MULTILINE)
    assert (site.root / "gitopsd-try" / "blog" / ".git").exists()


def test_add_says_how_a_daemon_that_runs_takes_the_repo_up(site: Site) -> None:
    url = Remote.create(site.root / "remotes" / "shop").url
    words = ("add", url, "--name", "shop", "--path", str(site.checkout("shop")))
    assert "kill -HUP" not in site.run(*words).stdout
    site.start()

    done = site.run(*words)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "  kill -HUP PID " in done.stdout


@pytest.mark.parametrize("words", [("check", "--config", "x"), ("status", "--config=x")], ids=" ".join)
def test_who_puts_the_configuration_after_the_command_is_told_where_it_stands(
    site: Site, words: tuple[str, ...]
) -> None:
    done = site.run(*words)

    assert done.returncode == 2
    assert "--config stands before the command" in done.stderr
