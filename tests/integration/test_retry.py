"""A failed job is tried again, later and later, and is never in anybody's way."""

import json
from itertools import pairwise

from tests.site import Site, wait_for

WORKS_WHEN_MENDED = 'echo run >> ../runs; test -e ../mended || { echo "no space for pages" >&2; exit 3; }'


def test_a_failing_deploy_is_recorded_and_tried_again_with_growing_delays(site: Site) -> None:
    remote = site.add_repo("blog", deploy="exit 3")
    site.settings["retry"] = {"tries": 4, "delay": "100ms", "max_delay": "300ms"}
    site.write_config()
    site.start()
    site.deliver("blog", remote.push())

    site.wait_for_job("blog", "failed", count=4)
    site.wait_until_settled("blog")

    jobs = site.jobs("blog")
    assert [job["attempts"] for job in jobs] == [1, 2, 3, 4]
    assert all("./deploy.sh exited with 3" in job["reason"] for job in jobs)
    assert jobs[0]["reason"].endswith("attempt 1 of 4, the next in 0.1 s")
    assert jobs[3]["reason"].endswith("given up after 4 attempts")
    waits = [round(later["due_at"] - earlier["finished_at"], 1) for earlier, later in pairwise(jobs)]
    assert waits == [0.1, 0.2, 0.3]


def test_a_retry_survives_a_restart_and_keeps_its_time(site: Site) -> None:
    remote = site.add_repo("blog", deploy=WORKS_WHEN_MENDED)
    site.settings["retry"] = {"delay": "1h", "max_delay": "1h"}
    site.write_config()
    site.start()
    revision = remote.push()
    site.deliver("blog", revision)
    site.wait_for_job("blog", "failed")
    before = site.jobs("blog")[-1]
    site.kill_everything()

    site.start()

    assert site.jobs("blog")[-1] == before
    assert before["state"] == "pending"
    assert before["due_at"] - before["created_at"] > 3500


def test_a_retry_that_is_due_after_a_restart_runs(site: Site) -> None:
    remote = site.add_repo("blog", deploy=WORKS_WHEN_MENDED)
    site.settings["retry"] = {"delay": "2s"}
    site.write_config()
    site.start()
    revision = remote.push()
    site.deliver("blog", revision)
    site.wait_for_job("blog", "failed")
    site.kill_everything()
    (site.checkout("blog").parent / "mended").touch()

    site.start()

    assert site.wait_for_job("blog", "succeeded")["attempts"] == 2
    assert site.deployed("blog") == revision


def test_a_retry_gives_way_to_a_newer_push(site: Site) -> None:
    remote = site.add_repo("blog", deploy=WORKS_WHEN_MENDED)
    site.settings["retry"] = {"delay": "1h", "max_delay": "1h"}
    site.write_config()
    site.start()
    site.deliver("blog", remote.push())
    site.wait_for_job("blog", "failed")

    fix = remote.push({"deploy.sh": "#!/bin/sh\n"})
    site.deliver("blog", fix)

    job = site.wait_for_job("blog", "succeeded")
    assert (job["new_revision"], job["attempts"]) == (fix, 1)
    assert [job["state"] for job in site.jobs("blog")] == ["failed", "superseded", "succeeded"]


def test_a_failing_repo_never_blocks_another(site: Site) -> None:
    broken = site.add_repo("broken", deploy="exit 1")
    blog = site.add_repo("blog", deploy="true")
    site.settings["max_parallel"] = 1
    site.settings["retry"] = {"tries": 100, "delay": "1ms", "max_delay": "1ms"}
    site.write_config()
    site.start()
    site.deliver("broken", broken.push())
    site.wait_for_job("broken", "failed")

    site.deliver("blog", blog.push())

    site.wait_for_job("blog", "succeeded")


def test_a_remote_that_is_away_is_asked_until_it_is_back(site: Site) -> None:
    remote = site.add_repo("blog")
    site.settings["retry"] = {"tries": 1, "delay": "100ms", "max_delay": "200ms"}
    site.write_config()
    site.start()
    away = remote.bare.rename(remote.bare.with_name("away"))
    site.deliver("blog", "a" * 40)
    failed = site.wait_for_job("blog", "failed", count=3)
    assert failed["exit_code"] == 75
    away.rename(remote.bare)

    assert site.wait_for_job("blog", "succeeded")["new_revision"] == remote.tip()


def test_the_status_of_a_repo_that_waits_for_its_retry_is_failed_with_the_reason(site: Site) -> None:
    remote = site.add_repo("blog", deploy=WORKS_WHEN_MENDED)
    site.settings["retry"] = {"delay": "1h", "max_delay": "1h"}
    site.write_config()
    site.start()
    site.deliver("blog", remote.push())
    failed = site.wait_for_job("blog", "failed")
    wait_for(lambda: site.jobs("blog")[-1]["state"] == "pending", "the retry")

    repo = json.loads(site.run("status", "blog", "--json").stdout)["repos"][0]

    assert repo["state"] == "failed"
    assert "./deploy.sh exited with 3" in repo["reason"]
    assert (repo["last_job"]["id"], repo["pending"], repo["running"]) == (failed["id"], failed["id"] + 1, None)
