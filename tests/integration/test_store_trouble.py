"""A store that cannot be written costs a 503 and a clear line, and nothing else."""

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from gitopsd.store import path_in
from tests.site import Site, wait_for


def test_a_full_disk_turns_deliveries_away_and_takes_them_when_there_is_room(site: Site, small_disk: Path) -> None:
    remote = site.add_repo("blog", deploy="true")
    site.start()
    site.deliver("blog", remote.push())
    site.wait_for_job("blog", "succeeded")
    site.wait_until_settled("blog")
    revision = remote.push()
    ballast = small_disk / "ballast"
    _fill(ballast)

    answer = site.deliver("blog", revision, delivery="while full")

    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert len(site.jobs("blog")) == 1
    ready = wait_for(lambda: (found := site.get("/readyz")).status == 503 and found, "readyz to notice")
    assert "make room on that disk" in ready.payload["error"]
    assert "a delivery was turned away" in site.log()
    ballast.unlink()
    again = site.deliver("blog", revision, delivery="while full")
    assert again.status == 202
    assert site.wait_for_job("blog", "succeeded", count=2)["new_revision"] == revision
    wait_for(lambda: site.get("/readyz").status == 200, "readyz to be well again")
    assert "Traceback" not in site.log()


def test_a_read_only_disk_turns_deliveries_away(site: Site, small_disk: Path) -> None:
    remote = site.add_repo("blog")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    site.start()

    answer = site.deliver("blog", remote.push())
    ready = wait_for(lambda: (found := site.get("/readyz")).status == 503 and found, "readyz to notice")

    assert answer.status == 503
    assert "see that its directory is there and writable" in ready.payload["error"]
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert site.deliver("blog", remote.push()).status == 202
    site.wait_for_job("blog", "succeeded")


def test_a_damaged_store_is_said_and_a_new_one_is_made_once_it_is_moved_away(site: Site) -> None:
    remote = site.add_repo("blog")
    store = path_in(site.state_dir)
    store.parent.mkdir(parents=True)
    store.write_bytes(b"this is no database" * 1000)
    site.start()

    answer = site.deliver("blog", remote.push())
    ready = site.get("/readyz")
    status = site.run("status")

    assert (answer.status, ready.status, status.returncode) == (503, 503, 1)
    assert "move the file away" in ready.payload["error"]
    assert "move the file away" in status.stderr
    assert len(status.stderr.splitlines()) == 1
    store.rename(store.with_name("damaged"))
    assert site.deliver("blog", remote.push()).status == 202
    site.wait_for_job("blog", "succeeded")
    assert "Traceback" not in site.log()


def test_a_store_that_is_damaged_while_the_daemon_runs_is_noticed(site: Site) -> None:
    remote = site.add_repo("blog")
    site.start()
    assert site.get("/readyz").status == 200
    for path in path_in(site.state_dir).parent.glob("gitopsd.sqlite3*"):
        with path.open("r+b") as file:  # not made shorter: of a mapped file that would be the end of who has mapped it
            file.write(b"\xff" * 8192)

    wait_for(lambda: site.get("/readyz").status == 503, "readyz to notice")

    assert site.deliver("blog", remote.push()).status == 503
    assert "Traceback" not in site.log()


def test_a_store_that_is_moved_away_while_the_daemon_runs_takes_its_records_along(site: Site) -> None:
    remote = site.add_repo("blog")
    site.start()
    before, after = remote.push(), remote.push()
    site.deliver("blog", before)
    site.wait_until_settled("blog")
    store = path_in(site.state_dir)
    moved = store.rename(store.with_name("moved"))  # without what lies beside it

    assert site.deliver("blog", after).status == 202

    site.wait_until_settled("blog")
    assert (_revisions(store), _revisions(moved)) == ([after], [before])
    assert "Traceback" not in site.log()


def _revisions(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [revision for (revision,) in connection.execute("SELECT revision FROM deliveries ORDER BY id")]


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
