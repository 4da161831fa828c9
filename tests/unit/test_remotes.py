"""Whether two ways to name a repository mean the same one."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from gitopsd.model import RemoteName
from gitopsd.remotes import is_remote_of, name_of, normalise_url
from gitopsd.settings import Repo

URL = "git@github.com:me/blog.git"


def repo(*, url: str = URL) -> Repo:
    return Repo(name="blog", url=url, ref="main", path=Path("/srv/blog"))


@pytest.mark.parametrize(
    "url",
    [
        "git@github.com:me/blog.git",
        "git@github.com:me/blog",
        "git@github.com:/me/blog.git",
        "github.com:me/blog.git",
        "me@github.com:me/blog.git",
        "git@GitHub.com:me/blog.git",
        "ssh://git@github.com/me/blog.git",
        "ssh://git@github.com:22/me/blog.git",
        "ssh://github.com:2222/me/blog",
        "git+ssh://git@github.com/me/blog",
        "git://github.com/me/blog.git",
        "http://github.com/me/blog",
        "https://github.com/me/blog",
        "https://github.com/me/blog.git",
        "https://github.com/me/blog.git/",
        "https://github.com/me/blog/",
        "https://github.com//me/blog",
        "https://github.com:443/me/blog",
        "https://github.com:/me/blog",
        "https://me@github.com/me/blog.git",
        "https://me:token@github.com/me/blog.git",
        "HTTPS://GITHUB.COM/me/blog.git",
    ],
)
def test_scheme_user_port_suffix_host_case_and_slashes_do_not_count(url: str) -> None:
    assert normalise_url(url) == "github.com/me/blog"


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        pytest.param("https://github.com/Me/Blog", "github.com/Me/Blog", id="the path keeps its case"),
        pytest.param("https://github.com.evil.example/me/blog", "github.com.evil.example/me/blog", id="longer host"),
        pytest.param("https://github.com@evil.example/me/blog", "evil.example/me/blog", id="host as user"),
        pytest.param("https://evil.example/github.com/me/blog", "evil.example/github.com/me/blog", id="host in path"),
        pytest.param("https://gitlab.com/group/sub/blog.git", "gitlab.com/group/sub/blog", id="nested groups"),
        pytest.param("https://github.com/me/blog.github", "github.com/me/blog.github", id="only .git is cut"),
        pytest.param("https://github.com/me/git", "github.com/me/git", id="a repository called git"),
        pytest.param("https://github.com", "github.com/", id="no path"),
        pytest.param("ssh://git@[::1]:2222/me/blog.git", "[::1]/me/blog", id="IPv6, port"),
        pytest.param("ssh://git@[2001:DB8::1]/me/blog.git", "[2001:db8::1]/me/blog", id="IPv6"),
        pytest.param("git@[::1]:me/blog.git", "[::1]/me/blog", id="IPv6, scp form"),
        pytest.param("/srv/git/blog.git", "/srv/git/blog", id="local path"),
        pytest.param("/srv/git:old/blog.git/", "/srv/git:old/blog", id="local path with a colon"),
        pytest.param("./blog:1.git", "/./blog:1", id="relative path with a colon"),
        pytest.param("file:///srv/git/blog.git", "/srv/git/blog", id="file URL"),
    ],
)
def test_what_names_the_remote_stays(url: str, normal: str) -> None:
    assert normalise_url(url) == normal


@settings(deadline=None)
@given(some.text(alphabet="aZ0:/@[]. ~%\n") | some.text())
def test_any_text_of_a_stranger_can_be_normalised(url: str) -> None:
    assert "/" in normalise_url(url)


@pytest.mark.parametrize(
    ("url", "full_name", "urls", "same"),
    [
        pytest.param(URL, "x/y", ("https://github.com/me/blog.git",), True, id="one of the URLs"),
        pytest.param(URL, "x/y", ("git://a/b", "ssh://git@github.com/me/blog"), True, id="another of the URLs"),
        pytest.param(URL, "me/blog", (), True, id="full name"),
        pytest.param(URL, "Me/BLOG", (), True, id="full name in another case"),
        pytest.param("work-account:me/blog.git", "me/blog", ("git@github.com:me/blog.git",), True, id="ssh host alias"),
        pytest.param("https://gitlab.com/group/sub/blog", "group/sub/blog", (), True, id="nested full name"),
        pytest.param("/srv/git/me/blog.git", "me/blog", (), True, id="a local mirror of that name"),
        pytest.param(URL, "blog", (), False, id="a name without its owner"),
        pytest.param(URL, "e/blog", (), False, id="the end of the owner's name"),
        pytest.param(URL, "me/blo", (), False, id="the start of the name"),
        pytest.param(URL, "me/blog/wiki", (), False, id="something below it"),
        pytest.param("ssh://me@gerrit.example.org:29418/blog", "blog", (), True, id="a name that has no owner"),
        pytest.param("https://gerrit.example.org/a/Blog", "blog", (), True, id="behind Gerrit's /a/"),
        pytest.param("https://gerrit.example.org/b/blog", "blog", (), False, id="behind another folder"),
        pytest.param("https://gerrit.example.org/a/team/blog", "blog", (), False, id="the end of a longer name"),
        pytest.param("https://gerrit.example.org/a/team/blog", "team/blog", (), True, id="an owner behind /a/"),
        pytest.param("https://gerrit.example.org/a", "", (), False, id="no name, and /a alone"),
        pytest.param("https://gerrit.example.org", "", (), False, id="no name and no path"),
        pytest.param("/srv/git/blog.git", "blog", (), False, id="the end of a local path"),
        pytest.param(URL, "", (), False, id="no name"),
        pytest.param(URL, "/", (), False, id="a slash"),
        pytest.param(URL, "", ("",), False, id="an empty URL"),
        pytest.param(URL, "me/blog-fork", ("https://github.com/me/blog-fork.git",), False, id="a fork"),
        pytest.param(URL, "x/y", ("https://github.com/ME/blog.git",), False, id="another case of the URL's path"),
    ],
)
def test_a_remote_is_known_by_url_or_full_name(url: str, full_name: str, urls: tuple[str, ...], same: bool) -> None:
    assert is_remote_of(repo(url=url), RemoteName(full_name=full_name, urls=urls)) is same


@pytest.mark.parametrize(
    "url",
    [
        "https://dev.azure.com/Org/proj/_git/repo",
        "https://org.visualstudio.com/DefaultCollection/Proj/_git/Repo",
        "git@ssh.dev.azure.com:v3/org/Proj/Repo",
    ],
)
def test_a_remote_is_known_by_either_of_its_names(url: str) -> None:
    remote = RemoteName(full_name="Proj/Repo", alias="Proj/_git/Repo", urls=("https://other.example/Proj/_git/Repo",))
    assert is_remote_of(repo(url=url), remote)


def test_names_are_the_same_quoted_and_plain() -> None:
    assert is_remote_of(
        repo(url="git@ssh.dev.azure.com:v3/org/Proj(1)/Repo"), RemoteName(full_name="Proj%281%29/Repo", urls=())
    )


@pytest.mark.parametrize(
    "url", ["https://me:p@ss@host.example/me/x", "https://me:tok/en@host/x", "https://h/x?token=abc"]
)
def test_what_is_left_of_a_malformed_url_is_not_shown(url: str) -> None:
    assert name_of(RemoteName(full_name="", urls=(url,))) == "a repository whose URL is malformed"


def test_a_repo_without_a_remote_is_nobodys() -> None:
    assert not is_remote_of(repo(url=""), RemoteName(full_name="", urls=("", "/")))
