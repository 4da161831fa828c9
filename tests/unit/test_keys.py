"""Which ssh host a URL names, and where a forge takes a deploy key."""

import pytest

from gitopsd.cli import keys
from gitopsd.cli.keys import SshHost
from gitopsd.errors import GitopsdError


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("git@github.com:me/blog.git", SshHost("github.com")),
        ("github.com:me/blog.git", SshHost("github.com")),
        ("ssh://git@git.example.org/me/blog.git", SshHost("git.example.org")),
        ("ssh://git@git.example.org:2222/me/blog.git", SshHost("git.example.org", 2222)),
        ("git@[2001:db8::1]:me/blog.git", SshHost("2001:db8::1")),
        ("ssh://git@[2001:db8::1]:2222/me/blog.git", SshHost("2001:db8::1", 2222)),
        ("git@[git.example.org:2222]:me/blog.git", SshHost("git.example.org", 2222)),
        ("https://github.com/me/blog.git", None),
        ("git://example.org/blog.git", None),
        ("file:///srv/remotes/blog.git", None),
        ("/srv/remotes/blog.git", None),
        ("/srv/odd:name.git", None),
        ("./blog:old.git", None),
    ],
)
def test_the_host_is_asked_over_ssh_as_git_would(url: str, host: SshHost | None) -> None:
    assert keys.host_of(url) == host


def test_a_port_that_is_none_is_an_error_for_people() -> None:
    with pytest.raises(GitopsdError, match=r"^ssh://git@example\.org:port/"):
        keys.host_of("ssh://git@example.org:port/blog.git")


@pytest.mark.parametrize(
    ("host", "known"),
    [
        (SshHost("example.org"), "example.org"),
        (SshHost("example.org", 2222), "[example.org]:2222"),
    ],
)
def test_known_hosts_names_a_host_with_its_port_unless_that_is_the_usual_one(host: SshHost, known: str) -> None:
    assert host.as_known == known


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("git@github.com:me/blog.git", "https://github.com/me/blog/settings/keys/new"),
        ("git@gitlab.com:group/sub/blog.git", "https://gitlab.com/group/sub/blog/-/settings/repository"),
        ("ssh://git@git.example.org:2222/me/blog.git", "git.example.org, as a deploy key of me/blog"),
    ],
)
def test_the_page_for_the_key_is_named_where_it_is_known(url: str, page: str) -> None:
    assert keys.where_to_paste(url).startswith(page)


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("git@github.com:me/blog.git", "https://github.com/me/blog/settings/keys"),
        ("git@codeberg.org:me/blog.git", "https://codeberg.org/me/blog/settings/keys"),
        ("ssh://git@git.example.org:2222/me/blog.git", "git.example.org, as a deploy key of me/blog"),
    ],
)
def test_the_page_that_lists_the_keys_is_not_the_form_for_another(url: str, page: str) -> None:
    assert keys.where_listed(url) == page


def test_what_makes_a_host_known_names_the_host_and_its_port() -> None:
    assert keys.how_to_know(SshHost("example.org")).startswith("ssh-keyscan example.org >> ")
    assert keys.how_to_know(SshHost("example.org", 2222)).startswith("ssh-keyscan -p 2222 example.org >> ")
