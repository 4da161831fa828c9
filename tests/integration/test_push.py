"""The main job: a signed push becomes a deployed commit, once, whatever else goes on."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.remote import git
from tests.site import Site, wait_for


def test_a_push_is_accepted_and_its_commit_is_deployed_once(site: Site) -> None:
    remote = site.add_repo("blog", deploy="echo deployed >> ../deploys")
    site.start()
    revision = remote.push({"index.html": "hello"})

    answer = site.deliver("blog", revision, delivery="one")

    assert answer.status == 202
    assert answer.payload["delivery"] == "one"
    job = site.wait_for_job("blog", "succeeded")
    assert answer.payload["jobs"] == [{"id": job["id"], "repo": "blog"}]
    assert job["new_revision"] == revision == site.deployed("blog")
    assert (site.checkout("blog") / "index.html").read_text() == "hello"
    assert (site.checkout("blog").parent / "deploys").read_text() == "deployed\n"


def test_a_burst_of_200_deliveries_makes_at_most_three_runs_and_deploys_the_last(site: Site) -> None:
    gate = site.root / "gate"
    remote = site.add_repo("blog", deploy=f"echo run >> ../runs; {_wait_for(gate)}")
    site.start()
    site.deliver("blog", remote.push())
    runs = site.checkout("blog").parent / "runs"
    wait_for(runs.exists, "the first run")
    last = remote.push()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: site.deliver("blog", last).status, range(200)))
    gate.touch()

    assert answers == [202] * 200
    site.wait_for_job("blog", "succeeded", count=2)
    site.wait_until_settled("blog")
    assert len(runs.read_text().splitlines()) <= 3
    assert site.deployed("blog") == last


def test_a_push_that_arrives_while_a_sync_runs_makes_exactly_one_more_run(site: Site) -> None:
    gate = site.root / "gate"
    remote = site.add_repo("blog", deploy=f"echo run >> ../runs; {_wait_for(gate)}")
    site.start()
    site.deliver("blog", remote.push())
    runs = site.checkout("blog").parent / "runs"
    wait_for(runs.exists, "the first run")

    revisions = [remote.push() for _ in range(5)]
    assert [site.deliver("blog", revision).status for revision in revisions] == [202] * 5
    gate.touch()

    site.wait_for_job("blog", "succeeded", count=2)
    site.wait_until_settled("blog")
    assert runs.read_text() == "run\nrun\n"
    assert site.deployed("blog") == revisions[-1]


def test_two_repos_are_synced_side_by_side_and_no_more_than_max_parallel(site: Site) -> None:
    gate = site.root / "gate"
    names = ("blog", "shop", "wiki")
    for name in names:
        site.add_repo(name, deploy=f"touch ../{name}-runs; {_wait_for(gate)}")
    site.start()
    for name in names:
        assert site.deliver(name, site.remotes[name].push()).status == 202

    def under_way() -> list[str]:
        return [name for name in names if (site.checkout(name).parent / f"{name}-runs").exists()]

    wait_for(lambda: len(under_way()) == 2, "two syncs at once")
    waiting = next(name for name in names if name not in under_way())
    assert [job["state"] for job in site.jobs(waiting)] == ["pending"]
    gate.touch()
    for name in names:
        site.wait_for_job(name, "succeeded")


def test_one_repo_never_overlaps_itself_with_gitopsd_sync_in_other_terminals(site: Site) -> None:
    deploy = "mkdir ../busy || echo overlap >> ../overlaps; echo run >> ../runs; sleep 0.2; rmdir ../busy"
    remote = site.add_repo("blog", deploy=deploy)
    site.start()
    last = remote.push()

    with ThreadPoolExecutor(4) as pool:
        syncs = [pool.submit(site.run, "sync", "blog", "--force") for _ in range(3)]
        assert site.deliver("blog", last).status == 202
        ended = [sync.result() for sync in syncs]

    assert [done.returncode for done in ended] == [0, 0, 0], [done.stdout + done.stderr for done in ended]
    site.wait_until_settled("blog")
    assert not (site.checkout("blog").parent / "overlaps").exists()
    assert site.deployed("blog") == last


def test_a_checkout_below_a_root_is_a_repo_once_it_is_opted_in(site: Site) -> None:
    remote = site.add_repo("wiki")
    del site.settings["repos"]["wiki"]
    root = site.root / "checkouts"
    git(_made(root), "clone", "--quiet", remote.url, "Wiki")
    site.settings["roots"] = [str(root)]
    site.write_config()
    site.start()

    refused = site.deliver("wiki", remote.push({".gitops": ""}))
    git(root / "Wiki", "pull", "--quiet")
    revision = remote.push()
    accepted = site.deliver("wiki", revision)

    assert (refused.status, refused.payload["reason"]) == (200, "no repo is configured for demo/wiki")
    assert (accepted.status, accepted.payload["jobs"][0]["repo"]) == (202, "wiki")
    assert site.wait_for_job("wiki", "succeeded")["new_revision"] == revision
    assert git(root / "Wiki", "rev-parse", "HEAD") == revision


def test_several_repos_may_follow_one_remote(site: Site) -> None:
    remote = site.add_repo("blog")
    settings = site.settings["repos"]
    settings["copy"] = {**settings["blog"], "path": str(site.checkout("copy"))}
    settings["drafts"] = {**settings["blog"], "path": str(site.checkout("drafts")), "ref": "drafts"}
    site.write_config()
    site.start()
    revision = remote.push()

    answer = site.deliver("blog", revision)

    assert [job["repo"] for job in answer.payload["jobs"]] == ["blog", "copy"]
    site.wait_for_job("blog", "succeeded")
    site.wait_for_job("copy", "succeeded")
    assert site.deployed("copy") == site.deployed("blog") == revision
    assert site.jobs("drafts") == []


def test_a_refused_sync_is_recorded_with_its_reason_and_not_tried_again(site: Site) -> None:
    remote = site.add_repo("blog")
    site.start()
    site.deliver("blog", remote.push({"page": "one"}))
    site.wait_for_job("blog", "succeeded")
    (site.checkout("blog") / "page").write_text("edited by hand")

    site.deliver("blog", remote.push({"page": "two"}))

    job = site.wait_for_job("blog", "refused")
    site.wait_until_settled("blog")
    assert "page" in job["reason"]
    assert (site.checkout("blog") / "page").read_text() == "edited by hand"
    assert len(site.jobs("blog")) == 2
    assert site.json("status")["repos"][0]["state"] == "refused"


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _wait_for(gate: Path) -> str:
    return f'while [ ! -e "{gate}" ]; do sleep 0.01; done'
