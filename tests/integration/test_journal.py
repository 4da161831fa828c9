"""Output in the journal, where there is one: a real systemd-journald in a mount namespace of its own."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.site import Site

JOURNALD = next(
    (path for path in ("/lib/systemd/systemd-journald", "/usr/lib/systemd/systemd-journald") if Path(path).exists()), ""
)

# A fresh /run, so that neither the machine's journal nor its directories are touched.
WITH_A_JOURNAL = f"""
set -eu
mount -t tmpfs none /run
mkdir -p /run/systemd/journal /run/log/journal
{JOURNALD} & journald=$!
trap 'kill $journald; wait $journald || true' EXIT
until [ -S /run/systemd/journal/socket ]; do :; done
"$@" sync blog
rm -r "$STATE_DIR/logs"
until "$@" logs blog; do :; done
journalctl --no-pager --quiet --output=json GITOPSD_REPO=blog
"""


def test_the_output_of_a_job_whose_log_is_gone_comes_from_the_journal(site: Site) -> None:
    can_unshare = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0
    if not (JOURNALD and shutil.which("journalctl") and can_unshare):
        pytest.skip("needs systemd-journald, journalctl and leave to make a mount namespace")
    site.add_repo("blog", deploy="echo hello from the deploy; echo two words >&2")

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", WITH_A_JOURNAL, "sh", *site.command()],
        env=site.environment | {"STATE_DIR": str(site.state_dir)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("hello from the deploy\n") == 2, done.stdout
    entries = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    (said,) = [entry for entry in entries if entry["MESSAGE"] == "two words"]
    assert {entry["GITOPSD_JOB"] for entry in entries} == {"1"}
    assert (said["GITOPSD_PHASE"], said["GITOPSD_REVISION"]) == ("deploy", site.deployed("blog"))
    assert "MESSAGE_ID" not in said


def test_a_log_that_is_nowhere_any_more_is_said_in_one_line(site: Site) -> None:
    site.add_repo("blog")
    assert site.run("sync", "blog").returncode == 0
    shutil.rmtree(site.state_dir / "logs")

    done = site.run("logs", "blog")

    assert done.returncode == 1
    assert done.stdout == ""
    assert "the log of job 1 is gone (keep.logs)" in done.stderr
    assert len(done.stderr.splitlines()) == 1
