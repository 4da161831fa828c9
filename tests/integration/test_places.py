"""Where the strategy release puts things: what `add`, `check` and `remove` say of it before and after a sync."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.remote import Remote
from tests.site import Site


@pytest.fixture
def path(site: Site) -> Path:
    """The symlink of a repo of the strategy release, which was not synced yet."""
    place = site.root / "srv" / "blog" / "current"
    site.add_repo("blog", strategy="release", path=str(place))
    return place


def problems(site: Site) -> dict[str, str]:
    """What `gitopsd check` finds, by what it is about."""
    found = json.loads(site.run("check", "--json").stdout)["findings"]
    return {each["subject"]: each["problem"] for each in found if each["problem"]}


def test_check_is_content_before_the_first_sync_and_after_it(site: Site, path: Path) -> None:
    assert problems(site) == {}
    path.mkdir(parents=True)  # as somebody may have made it
    assert problems(site) == {}
    assert site.run("sync", "blog").returncode == 0
    assert path.is_symlink()
    assert problems(site) == {}


def a_directory(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "index.html").touch()


def a_checkout(path: Path) -> None:
    (path / ".git").mkdir(parents=True)


def a_file(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()


def a_link(path: Path) -> None:
    (path.parent / "v1").mkdir(parents=True)
    path.symlink_to("v1")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (a_directory, "is a directory, and is to be a symlink; move it away, then: gitopsd sync blog"),
        (a_checkout, "is a directory, and is to be a symlink; move it away, then: gitopsd sync blog"),
        (a_file, "is a file, and is to be a symlink; move it away, then: gitopsd sync blog"),
        (a_link, "leads to v1, which is no release of it; remove that symlink, then: gitopsd sync blog"),
    ],
)
def test_what_stands_where_the_symlink_is_to_be_is_told_and_that_is_what_the_sync_says(
    site: Site, path: Path, make: Callable[[Path], None], told: str
) -> None:
    make(path)

    assert problems(site) == {f"blog: path {path}": told}
    done = site.run("sync", "blog")
    assert done.returncode == 77
    assert f"{path} is in the way" in done.stdout


def test_who_goes_back_to_a_checkout_is_told_to_remove_the_symlink(site: Site, path: Path) -> None:
    site.run("sync", "blog")
    site.settings["repos"]["blog"]["strategy"] = "in-place"
    site.write_config()

    told = "leads to a release; remove that symlink, then: gitopsd sync blog"
    assert problems(site) == {f"blog: path {path}": told}

    path.unlink()
    assert problems(site) == {}
    assert site.run("sync", "blog").returncode == 0


def test_a_file_in_place_of_the_directory_is_told(site: Site, path: Path) -> None:
    path.parent.parent.mkdir(parents=True)
    path.parent.touch()

    assert problems(site) == {f"blog: path {path}": f"{path.parent} is a file"}


def test_policies_that_cannot_hold_are_told(site: Site) -> None:
    signers = site.checkout("blog") / "signers"
    site.add_repo("blog", rollback=True, verify="ssh", allowed_signers=str(signers))
    nothing = "rollback: nothing can fail after a revision was put in place; add deploy, compose, units or health"

    assert problems(site) == {"blog": nothing, f"blog: allowed_signers {signers}": "is not there"}


# add and remove


def test_a_release_is_added_with_a_place_for_its_symlink(site: Site) -> None:
    name = f"gitopsd-test-{site.root.name}"[:60].strip("-_").lower()
    remote = Remote.create(site.root / "remotes" / "shop")
    words = ("add", remote.url, "--name", name, "--strategy", "release")

    for again in (words, words, words[:-2]):  # what is there already was asked for with a strategy, or before it
        done = site.run(*again)
        assert f"{name}  follows main of {remote.url} at /srv/{name}/current" in done.stdout, done.stderr
    text = (site.root / "conf.d" / f"{name}.yaml").read_text()
    assert f"path: /srv/{name}/current\n" in text
    assert "strategy: release\n" in text
    assert "ref: main\n" in text
    assert not Path("/srv", name).exists()


def test_a_release_can_be_added_elsewhere_also_where_its_symlink_leads_nowhere(site: Site) -> None:
    remote = Remote.create(site.root / "remotes" / "shop")
    path = site.root / "srv" / "shop" / "now"
    path.parent.mkdir(parents=True)
    path.symlink_to(".now.releases/gone")

    done = site.run("add", remote.url, "--name", "shop", "--strategy", "release", "--path", str(path))

    assert done.returncode == 0, done.stdout
    assert site.run("sync", "shop").returncode == 0
    assert (path / "README").exists()


def in_conf_d(site: Site, path: Path) -> None:
    """The repo in a file of its own, which can be removed."""
    (site.root / "conf.d").mkdir()
    entry = json.dumps({"repos": {"blog": site.settings["repos"].pop("blog")}})
    (site.root / "conf.d" / "blog.yaml").write_text(entry)
    site.write_config()


def test_releases_and_mirror_stay_when_the_repo_is_removed_and_it_is_told_where(site: Site, path: Path) -> None:
    in_conf_d(site, path)
    assert site.run("sync", "blog").returncode == 0

    said = site.run("remove", "blog", "--yes").stdout

    trees, mirror = path.parent / ".current.releases", site.state_dir / "mirrors" / "blog"
    stays = f"the releases in {trees} with the symlink {path}, the mirror {mirror}, the history and the logs"
    assert f"Stays: {stays}\n" in said
    assert (path / "README").exists()
    assert mirror.is_dir()


def test_a_directory_that_no_release_was_put_into_goes_with_the_repo(site: Site, path: Path) -> None:
    in_conf_d(site, path)
    path.parent.mkdir(parents=True)

    said = site.run("remove", "blog", "--yes").stdout

    assert f"{path.parent} (empty)" in said
    assert "Stays: the history and the logs\n" in said
    assert not path.parent.exists()


def test_a_directory_that_others_may_use_stays(site: Site) -> None:
    path = site.root / "srv" / "current"
    site.add_repo("blog", strategy="release", path=str(path))
    in_conf_d(site, path)
    path.parent.mkdir()

    assert "(empty)" not in site.run("remove", "blog", "--yes").stdout
    assert path.parent.is_dir()
