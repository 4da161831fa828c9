"""`gitopsd rescued`: what a sync has saved is listed, and can be taken back."""

from typing import Any

import pytest

from tests.remote import Remote, git
from tests.site import Site


def follow(site: Site, **settings: Any) -> Remote:
    """The remote of a repo that was deployed once."""
    remote = site.add_repo("blog", **settings)
    assert site.run("sync", "blog").returncode == 0
    return remote


def test_nothing_is_listed_where_nothing_was_saved(site: Site) -> None:
    follow(site)
    assert site.run("rescued", "blog").stdout == "nothing of blog has been saved\n"


def test_nothing_is_listed_of_a_repo_that_was_never_synced(site: Site) -> None:
    site.add_repo("blog")
    assert site.json("rescued", "blog")["rescued"] == []


def test_a_change_that_was_in_the_way_is_listed_and_can_be_taken_back(site: Site) -> None:
    remote = follow(site, local_changes="rescue")
    (site.checkout("blog") / "README").write_text("a repair\n")
    remote.push()
    assert site.run("sync", "blog").returncode == 0

    (saved,) = site.json("rescued", "blog")["rescued"]
    assert saved["files"] == ["README"]
    assert git(site.checkout("blog"), "show", f"{saved['ref']}:README") == "a repair"
    assert saved["ref"] in site.run("rescued", "blog").stdout
    assert saved["ref"] in site.run("history", "blog").stdout


def test_the_newest_comes_first(site: Site) -> None:
    follow(site, drift="repair", local_changes="rescue")
    for text in ("first\n", "second\n"):
        (site.checkout("blog") / "README").write_text(text)
        assert site.run("sync", "blog").returncode == 0

    newest, oldest = site.json("rescued", "blog")["rescued"]
    assert git(site.checkout("blog"), "show", f"{newest['ref']}:README") == "second"
    assert git(site.checkout("blog"), "show", f"{oldest['ref']}:README") == "first"


def test_local_commits_that_were_saved_are_listed(site: Site) -> None:
    remote = follow(site, local_changes="rescue")
    checkout = site.checkout("blog")
    (checkout / "mine").write_text("mine\n")
    git(checkout, "add", "mine")
    git(checkout, "commit", "--quiet", "-m", "a commit of mine")
    remote.push()
    assert site.run("sync", "blog").returncode == 0

    (saved,) = site.json("rescued", "blog")["rescued"]
    assert (saved["why"], saved["files"]) == ("a commit of mine", ["mine"])


def test_what_came_into_a_release_is_listed_of_its_mirror(site: Site) -> None:
    remote = follow(site, strategy="release", keep=2)
    (site.checkout("blog") / "upload").write_text("of a visitor\n")
    for _ in range(2):
        remote.push()
        assert site.run("sync", "blog").returncode == 0

    listed = site.json("rescued", "blog")
    (saved,) = listed["rescued"]
    assert saved["files"] == ["upload"]
    assert listed["repository"] == str(site.state_dir / "mirrors" / "blog")


@pytest.mark.parametrize(("name", "said"), [("nobody", "there is no repo 'nobody'"), ("command", "has no git")])
def test_a_repo_that_has_nothing_to_save_says_so(site: Site, name: str, said: str) -> None:
    settings = {"strategy": "none", "path": str(site.root), "deploy": ["true"]}
    site.settings["repos"]["command"] = settings
    site.write_config()
    done = site.run("rescued", name)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
