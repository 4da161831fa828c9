"""Which checkouts below a root are repos, and what is said of those that are not."""

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gitopsd import process
from gitopsd.discovery import Found, Origins, find_repo, find_repos
from gitopsd.errors import GitopsdError
from gitopsd.settings import Config, Repo
from tests.conftest import ForNobody
from tests.remote import git

URL = "git@github.com:me/blog.git"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "root"
    directory.mkdir()
    return directory


def config(*roots: Path, **repos: Repo) -> Config:
    nowhere = Path("/nonexistent")
    return Config(source=Path("gitopsd.yaml"), state_dir=nowhere, engine=nowhere, roots=roots, repos=repos)


def configured(name: str, path: Path) -> Repo:
    return Repo(name=name, url=URL, ref="release", path=path)


def checkout(path: Path, *, url: str | None = URL, branch: str = "main", opted_in: bool = True) -> Path:
    """A repository on a branch without a commit, as far as discovery needs one."""
    git(path.parent, "init", "--quiet", "--template=", f"--initial-branch={branch}", str(path))
    if url is not None:
        git(path, "remote", "add", "origin", url)
    if opted_in:
        (path / ".gitops").touch()
    return path


def discovered(name: str, path: Path, *, ref: str = "main") -> Repo:
    return Repo(name=name, url=URL, ref=ref, path=path, opted_in_by_file=True)


def test_each_opted_in_checkout_below_a_root_is_a_repo_with_its_own_url_and_branch(root: Path, tmp_path: Path) -> None:
    blog = checkout(root / "blog")
    shop = checkout(root / "shop", branch="release/1.x")
    checkout(root / "private", opted_in=False)
    (tmp_path / "second").mkdir()
    docs = checkout(tmp_path / "second" / "docs")

    found = find_repos(config(root, tmp_path / "second"))

    assert found == Found(
        {
            "blog": discovered("blog", blog),
            "shop": discovered("shop", shop, ref="release/1.x"),
            "docs": discovered("docs", docs),
        }
    )


def test_the_content_of_the_opt_in_file_does_not_count(root: Path) -> None:
    (checkout(root / "blog") / ".gitops").write_text("url: https://evil.example/\n")

    assert find_repos(config(root)).repos["blog"].url == URL


@pytest.mark.parametrize("below", ["site", "site/.current.releases", "elsewhere"])
def test_a_release_below_a_root_is_no_repo_of_its_own(root: Path, below: str) -> None:
    path, trees = root / "site" / "current", root / "site" / ".current.releases"
    trees.mkdir(parents=True)
    tree = checkout(trees / "20240502T191713.000000Z-0123456789ab")
    path.symlink_to(f".current.releases/{tree.name}")
    (root / "elsewhere").mkdir()
    (root / "elsewhere" / "link").symlink_to(tree)
    site = configured("site", path)._replace(strategy="release")

    found = find_repos(config(root / below, site=site))

    assert found == Found({"site": site})


def test_a_checkout_beside_releases_is_a_repo(root: Path) -> None:
    (root / ".current.releases").mkdir()
    blog = checkout(root / "blog")
    site = configured("site", root / "current")._replace(strategy="release")

    assert find_repos(config(root, site=site)).repos == {"site": site, "blog": discovered("blog", blog)}


def test_only_what_is_directly_below_a_root_is_looked_at(root: Path) -> None:
    (root / "group").mkdir()
    checkout(root / "group" / "blog")
    (root / ".gitops").touch()

    assert find_repos(config(root)) == Found()


@pytest.mark.parametrize("instead", ["nothing", "a file", "a link to itself"])
def test_a_root_that_is_no_directory_is_a_problem_and_the_others_are_served(root: Path, instead: str) -> None:
    blog, other = checkout(root / "blog"), root / "other"
    if instead == "a file":
        other.touch()
    elif instead == "a link to itself":
        other.symlink_to(other)

    found = find_repos(config(other, root))

    assert found.repos == {"blog": discovered("blog", blog)}
    assert found.problems == {
        str(other): f"roots: {other} is not a directory that this user may enter; make it, or take it out"
    }


def test_a_root_in_a_directory_that_may_not_be_entered_is_a_problem(for_nobody: ForNobody) -> None:
    root = for_nobody.place / "closed" / "root"
    root.mkdir(parents=True)
    root.parent.chmod(0o600)

    with for_nobody.rights():
        found = find_repos(config(root))

    assert found == Found(
        {}, {str(root): f"roots: {root} is not a directory that this user may enter; make it, or take it out"}
    )


@pytest.mark.parametrize("mode", [0o000, 0o333, 0o444], ids=["nothing", "enter only", "list only"])
def test_a_root_that_may_not_be_read_is_a_problem(for_nobody: ForNobody, mode: int) -> None:
    root = for_nobody.place / "root"
    (root / "blog").mkdir(parents=True)
    (root / "blog" / ".gitops").touch()
    root.chmod(mode)

    with for_nobody.rights():
        found = find_repos(config(root))

    assert found.repos == {}
    assert list(found.problems) == [str(root)]
    assert f"roots: {root}" in found.problems[str(root)]


def test_a_checkout_in_upper_case_gets_a_name_in_lower_case(root: Path) -> None:
    path = checkout(root / "My-Blog.Example_1")

    assert find_repos(config(root)).repos == {"my-blog.example_1": discovered("my-blog.example_1", path)}


def test_of_two_checkouts_with_one_name_the_second_is_a_problem(root: Path, tmp_path: Path) -> None:
    first = checkout(root / "Blog")
    second = checkout(root / "blog")
    (tmp_path / "other").mkdir()
    third = checkout(tmp_path / "other" / "BLOG")

    found = find_repos(config(root, tmp_path / "other"))

    assert found.repos == {"blog": discovered("blog", first)}
    said = "\n".join(found.problems.values())
    for path in (second, third):
        assert f"{path}: opted in, but no repo: the name 'blog' is taken by {first}" in said


def test_a_name_that_is_configured_elsewhere_is_taken(root: Path, tmp_path: Path) -> None:
    path = checkout(root / "blog")
    blog = configured("blog", tmp_path / "elsewhere")

    found = find_repos(config(root, blog=blog))

    assert found.repos == {"blog": blog}
    assert found.problems == {"blog": f"{path}: opted in, but no repo: the name 'blog' is taken by {blog.path}"}


@pytest.mark.parametrize("spelling", ["{root}/blog", "{root}/blog/", "{root}/./other/../blog"])
def test_a_checkout_that_is_configured_is_left_to_its_configuration(root: Path, spelling: str) -> None:
    checkout(root / "blog")
    site = configured("site", Path(spelling.format(root=root)))

    assert find_repos(config(root, site=site)) == Found({"site": site})


def test_a_checkout_that_is_configured_by_a_symbolic_link_is_left_to_its_configuration(
    root: Path, tmp_path: Path
) -> None:
    checkout(root / "blog")
    (tmp_path / "link").symlink_to(root)
    site = configured("site", tmp_path / "link" / "blog")

    assert find_repos(config(root, site=site)) == Found({"site": site})


def test_a_symbolic_link_to_a_checkout_does_not_make_two_repos_of_it(root: Path) -> None:
    blog = checkout(root / "blog")
    (root / "latest").symlink_to("blog")

    assert find_repos(config(root)).repos == {"blog": discovered("blog", blog)}


@pytest.mark.parametrize(
    ("trouble", "problem"),
    [
        ("no checkout", "it is not a git checkout of its own (no .git directory)"),
        ("a worktree", "it is not a git checkout of its own (no .git directory)"),
        ("no origin", "it has no remote 'origin'"),
        ("an empty origin", "it has no remote 'origin'"),
        ("a token", "the URL of its origin holds credentials; use an ssh key or a git credential helper"),
        ("a broken git configuration", "it has no remote 'origin'"),
        ("a detached HEAD", "it is not on a branch"),
        ("no HEAD", "its .git/HEAD cannot be read"),
        ("a HEAD of noise", "its .git/HEAD cannot be read"),
    ],
)
def test_an_opted_in_directory_that_cannot_be_a_repo_says_why(root: Path, trouble: str, problem: str) -> None:
    path = root / "blog"
    if trouble == "no checkout":
        path.mkdir()
        (path / ".gitops").touch()
    else:
        checkout(path, url=None if trouble == "no origin" else URL)
    if trouble == "a worktree":
        (path / ".git").rename(root / "elsewhere")
        (path / ".git").write_text(f"gitdir: {root}/elsewhere\n")
    elif trouble == "an empty origin":
        git(path, "config", "remote.origin.url", "")
    elif trouble == "a token":
        git(path, "config", "remote.origin.url", "https://hunter2@example.org/blog.git")
    elif trouble == "a broken git configuration":
        (path / ".git" / "config").write_text("[remote")
    elif trouble == "a detached HEAD":
        (path / ".git" / "HEAD").write_text("1" * 40 + "\n")
    elif trouble == "no HEAD":
        (path / ".git" / "HEAD").unlink()
    elif trouble == "a HEAD of noise":
        (path / ".git" / "HEAD").write_bytes(b"\xff\xfe")
    shop = checkout(root / "shop")

    found = find_repos(config(root))

    assert found.repos == {"shop": discovered("shop", shop)}
    assert found.problems == {"blog": f"{path}: opted in, but no repo: {problem}"}
    with pytest.raises(GitopsdError, match=f"^{re.escape(found.problems['blog'])}$"):
        find_repo(config(root), "blog")


@pytest.mark.parametrize("name", ["_blog", "blög", "my blog", ".blog", "b" * 64])
def test_a_directory_whose_name_no_repo_can_have_is_a_problem(root: Path, name: str) -> None:
    path = checkout(root / name)

    found = find_repos(config(root))

    assert found.repos == {}
    hint = f"'{name}' is no name for a repo; name it under repos: in the configuration"
    assert found.problems == {name: f"{path}: opted in, but no repo: {hint}"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a checkout to another user")
def test_a_checkout_of_another_user_is_found_all_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("SUDO_UID", raising=False)
    path = checkout(root / "blog")
    subprocess.run(["chown", "-R", "65534:65534", str(path)], check=True)
    refused = subprocess.run(["git", "-C", str(path), "status"], capture_output=True, text=True, check=False)
    assert "dubious ownership" in refused.stderr  # or else this test shows nothing

    assert find_repos(config(root)) == Found({"blog": discovered("blog", path)})


def test_what_the_environment_tells_git_does_not_reach_a_checkout(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout(root / "blog", url=None)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "remote.origin.url")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://evil.example/")

    assert find_repos(config(root)).repos == {}


class Looks:
    """Looks one after another, as a daemon takes them, and which checkouts git was asked about in each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.git: Callable[..., tuple[process.Ended, str]] = process.output_of
        self._origins: Origins = {}
        monkeypatch.setattr(process, "output_of", self._ask)

    def take(self, everything: Config) -> Found:
        self.asked.clear()
        return find_repos(everything, self._origins)

    def _ask(self, argv: Sequence[str], **how: Any) -> tuple[process.Ended, str]:
        self.asked.append(Path(argv[argv.index("--file") + 1]).parents[1].name)
        return self.git(argv, **how)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


def test_the_next_look_asks_git_about_nothing_but_what_is_new_or_gave_no_answer(root: Path, looks: Looks) -> None:
    blog = checkout(root / "blog")
    (checkout(root / "broken") / ".git" / "config").write_text("[remote")
    first = looks.take(config(root))
    assert looks.asked == ["blog", "broken"]

    assert (looks.take(config(root)), looks.asked) == (first, ["broken"])

    shop = checkout(root / "shop")
    found = looks.take(config(root))
    assert looks.asked == ["broken", "shop"]
    assert found.repos == {"blog": discovered("blog", blog), "shop": discovered("shop", shop)}
    assert found.problems == first.problems == find_repos(config(root)).problems


def test_a_checkout_whose_git_configuration_has_changed_is_asked_about_again(root: Path, looks: Looks) -> None:
    blog, shop = checkout(root / "blog", url="git@github.com:me/old.git"), checkout(root / "shop")
    mended = checkout(root / "mended", url=None)
    looks.take(config(root))
    git(blog, "remote", "set-url", "origin", URL)
    git(mended, "remote", "add", "origin", URL)

    found = looks.take(config(root))

    assert looks.asked == ["blog", "mended"]
    assert found == Found({path.name: discovered(path.name, path) for path in (blog, mended, shop)})


def test_another_checkout_in_the_place_of_one_is_asked_about(root: Path, looks: Looks, tmp_path: Path) -> None:
    blog = checkout(root / "blog", url="git@github.com:me/old.git")
    looks.take(config(root))
    blog.rename(tmp_path / "aside")
    assert looks.take(config(root)) == Found()

    checkout(blog)

    assert looks.take(config(root)) == Found({"blog": discovered("blog", blog)})


def test_the_branch_of_a_checkout_is_looked_at_each_time_and_takes_no_git(root: Path, looks: Looks) -> None:
    blog = checkout(root / "blog")
    looks.take(config(root))
    git(blog, "symbolic-ref", "HEAD", "refs/heads/next")

    assert looks.take(config(root)).repos == {"blog": discovered("blog", blog, ref="next")}
    assert looks.asked == []


def test_a_git_that_did_not_come_to_an_answer_is_asked_again(root: Path, looks: Looks) -> None:
    blog, answering = checkout(root / "blog"), looks.git
    looks.git = lambda *_, **__: (process.Ended(signal_name="SIGTERM", timed_out=True), "")
    assert list(looks.take(config(root)).problems) == ["blog"]

    looks.git = answering

    assert looks.take(config(root)) == Found({"blog": discovered("blog", blog)})


def test_a_repo_is_found_by_its_name_configured_or_discovered(root: Path, tmp_path: Path) -> None:
    path = checkout(root / "Blog")
    site = configured("site", tmp_path / "site")
    everything = config(root, site=site)

    assert find_repo(everything, "site") == site
    assert find_repo(everything, "blog") == discovered("blog", path)


def test_a_name_that_is_no_repo_gets_the_names_that_are(root: Path, tmp_path: Path) -> None:
    checkout(root / "blog")
    everything = config(root, site=configured("site", tmp_path / "site"))

    with pytest.raises(GitopsdError, match=r"^there is no repo 'blgo' in the configuration; known: site, blog$"):
        find_repo(everything, "blgo")
    with pytest.raises(GitopsdError, match=r"^there is no repo 'blog' in the configuration; none is configured$"):
        find_repo(everything._replace(roots=(), repos={}), "blog")
