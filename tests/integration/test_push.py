"""The main job: a signed push becomes a deployed commit."""

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


def test_a_push_that_arrives_while_a_sync_runs_makes_exactly_one_more_run(site: Site) -> None:
    gate = site.root / "gate"
    remote = site.add_repo("blog", deploy=f'echo run >> ../runs; while [ ! -e "{gate}" ]; do sleep 0.01; done')
    site.start()
    site.deliver("blog", remote.push({}))
    runs = site.checkout("blog").parent / "runs"
    wait_for(runs.exists, "the first run")

    for _ in range(5):
        last = remote.push()
        assert site.deliver("blog", last).status == 202
    gate.touch()

    site.wait_for_job("blog", "succeeded", count=2)
    site.wait_until_settled("blog")
    assert runs.read_text() == "run\nrun\n"
    assert site.deployed("blog") == last
