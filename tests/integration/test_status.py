"""One command, and one knows: what `status`, `why` and /readyz say when something is not as it should be."""

import signal

from tests.site import Site, wait_for


def test_a_wrong_secret_at_the_provider_is_said_until_a_delivery_is_in_order(site: Site) -> None:
    remote = site.add_repo("blog")
    site.start()

    assert site.deliver("blog", remote.tip(), secret="wrong").status == 401

    (problem,) = site.json("status")["problems"]
    assert problem.startswith("receiver 'default' refused a delivery ")
    assert "the signature does not match any secret" in problem
    refusal = problem.partition(" ago: ")[2]  # seconds pass between one look and the next
    assert refusal in site.run("why", "blog").stdout
    site.stop(signal.SIGKILL)
    site.start()
    assert refusal in site.json("status")["problems"][0], "a restart forgets nothing"
    assert site.deliver("blog", remote.tip()).status == 202
    assert site.json("status")["problems"] == []


def test_a_stranger_at_an_unknown_receiver_is_nobodys_problem(site: Site) -> None:
    site.add_repo("blog")
    site.start()

    assert site.deliver("blog", "a" * 40, secret="wrong", path="/hook/nobody").status == 401

    assert site.json("status")["problems"] == []


def test_a_daemon_that_is_not_there_is_said_and_its_old_problems_are_not(site: Site) -> None:
    site.add_repo("blog")
    site.start()
    whole = site.config_path.read_text()
    site.config_path.write_text("colour: red\n")
    site.signal(signal.SIGHUP)
    wait_for(lambda: "stays in force" in site.log(), "the reload")
    site.config_path.write_text(whole)
    wait_for(lambda: "stays in force" in "".join(site.json("status")["problems"]), "the note of the daemon")

    site.stop(signal.SIGKILL)

    (problem,) = site.json("status")["problems"]
    assert "gitopsd serve is not running" in problem


def test_readyz_knows_of_a_reload_that_came_to_nothing(site: Site) -> None:
    site.add_repo("blog")
    site.start()
    whole = site.config_path.read_text()
    site.config_path.write_text("colour: red\n")
    site.signal(signal.SIGHUP)

    ready = wait_for(lambda: (found := site.get("/readyz")).status == 503 and found, "readyz to say so")

    assert "colour: unknown key" in ready.payload["error"]
    site.config_path.write_text(whole)
    site.signal(signal.SIGHUP)
    wait_for(lambda: site.get("/readyz").status == 200, "the mended configuration")


def test_why_shows_a_newer_job_than_that_of_the_last_delivery(site: Site) -> None:
    remote = site.add_repo("blog")
    site.start()
    site.deliver("blog", remote.push({"page": "one"}))
    site.wait_for_job("blog", "succeeded")
    (site.checkout("blog") / "page").write_text("edited by hand")
    remote.push({"page": "two"})
    assert site.run("sync", "blog").returncode == 77

    why = site.run("why", "blog").stdout

    last = next(line for line in why.splitlines() if line.startswith("  last job"))
    assert "refused: " in last
    assert "(job 2, manual, " in last


def test_a_second_daemon_on_the_same_records_is_told_of_the_first(site: Site) -> None:
    site.add_repo("blog")
    site.start()
    first = site._daemon
    assert first is not None

    site.start(wait=False)

    wait_for(lambda: "another gitopsd serve is running" in site.log(), "the warning")
    first.kill()
    first.wait()
    wait_for(lambda: site.json("status")["problems"] == [], "the second to take the first one's place")
