"""What hangs is ended, with everything it started."""

import socket
from pathlib import Path

from tests.site import Site, wait_for


def test_a_hung_fetch_ends_at_its_time_limit_and_is_recorded_with_its_phase(site: Site) -> None:
    remote = site.add_repo("blog", timeout="500ms")
    git_config = site.root / "gitconfig"
    site.environment["GIT_CONFIG_GLOBAL"] = str(git_config)
    with socket.create_server(("127.0.0.1", 0)) as hung:
        git_config.write_text(f'[url "git://127.0.0.1:{hung.getsockname()[1]}/"]\n\tinsteadOf = {remote.url}\n')
        site.start()
        assert site.deliver("blog", remote.tip()).status == 202
        job = site.wait_for_job("blog", "failed")
        assert "fetch was ended: the sync took longer than 0.5 s" in job["reason"]
        site.stop()
    assert site.processes() == []


def test_a_hung_deploy_ends_with_its_grandchildren_even_those_that_ignore_sigterm(site: Site) -> None:
    stubborn = "trap '' TERM; echo $$ >> ../pids; while :; do sleep 0.05; done"
    remote = site.add_repo("blog", timeout="1s", deploy=f'sh -c "{stubborn.replace("$", chr(92) + "$")}" & {stubborn}')
    site.settings["retry"] = {"tries": 1}
    site.write_config()
    site.start()
    assert site.deliver("blog", remote.push()).status == 202

    job = site.wait_for_job("blog", "failed")

    assert "deploy was ended: the sync took longer than 1 s" in job["reason"]
    pids = (site.checkout("blog").parent / "pids").read_text().split()
    assert len(pids) == 2
    wait_for(lambda: not [pid for pid in pids if _lives(int(pid))], "the stubborn processes to be gone")


def test_a_deploy_that_leaves_a_process_in_the_background_does_not_hang_the_sync(site: Site) -> None:
    remote = site.add_repo("blog", deploy="sleep 600 & echo $! > ../pid")
    site.start()
    site.deliver("blog", remote.push())

    site.wait_for_job("blog", "succeeded")

    pid = int((site.checkout("blog").parent / "pid").read_text())
    wait_for(lambda: not _lives(pid), "the process that was left behind to be ended")


def _lives(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
