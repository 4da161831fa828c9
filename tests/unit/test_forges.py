"""What GitHub, GitLab and Gitea are asked, on a real server that stands in for them, and what their answers mean."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gitopsd.errors import GitopsdError
from gitopsd.notify import forges
from gitopsd.notify.forges import FAILURE, PENDING, SUCCESS, Answer, Status
from gitopsd.settings import Repo, Statuses
from tests.listener import Listener

REVISION = "a" * 40
TOKEN = "t0ken-that-nobody-sees"


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as here:
        yield here


def repo_of(forge: str, url: str = "git@git.example.org:me/blog.git", api: str = "", context: str = "gitopsd") -> Repo:
    settings = Statuses(forge=forge, token="forge-token", api=api, context=context)
    return Repo(name="blog", url=url, ref="main", path=Path("/srv/blog"), statuses=settings)


FAILED = Status(FAILURE, "deploy failed")


def tell(listener: Listener, forge: str = "github", status: Status = FAILED) -> Answer:
    return forges.post(repo_of(forge, api=f"http://{listener.place}/api/v1"), REVISION, status, TOKEN)


def test_github_is_told_with_a_bearer(listener: Listener) -> None:
    assert tell(listener) == Answer()
    (heard,) = listener.heard
    assert (heard.method, heard.path) == ("POST", f"/api/v1/repos/me/blog/statuses/{REVISION}")
    assert heard.headers["authorization"] == f"Bearer {TOKEN}"
    assert heard.headers["user-agent"].startswith("gitopsd/")
    assert heard.body == {"state": "failure", "description": "deploy failed", "context": "gitopsd"}


def test_gitea_is_told_with_a_token(listener: Listener) -> None:
    tell(listener, "gitea", Status(PENDING, "waits"))
    (heard,) = listener.heard
    assert heard.path == f"/api/v1/repos/me/blog/statuses/{REVISION}"
    assert heard.headers["authorization"] == f"token {TOKEN}"
    assert heard.body["state"] == "pending"


@pytest.mark.parametrize(("state", "word"), [(PENDING, "pending"), (SUCCESS, "success"), (FAILURE, "failed")])
def test_gitlab_is_told_in_its_own_words(listener: Listener, state: str, word: str) -> None:
    repo = repo_of("gitlab", url="ssh://git@git.example.org:2222/group/sub/blog.git", api=f"http://{listener.place}")
    assert forges.post(repo, REVISION, Status(state, "why"), TOKEN) == Answer()
    (heard,) = listener.heard
    assert heard.path == f"/projects/group%2Fsub%2Fblog/statuses/{REVISION}"
    assert heard.headers["private-token"] == TOKEN
    assert "authorization" not in heard.headers
    assert heard.body["state"] == word


def test_a_reason_is_cut_to_what_forges_show(listener: Listener) -> None:
    tell(listener, status=Status(FAILURE, "x" * 200))
    description = listener.heard[0].body["description"]
    assert len(description) == 140
    assert description == "x" * 139 + "…"


def test_hosts_are_told_apart_by_the_context(listener: Listener) -> None:
    repo = repo_of("github", api=f"http://{listener.place}", context="gitopsd/mini1")
    forges.post(repo, REVISION, Status(SUCCESS, "deployed"), TOKEN)
    assert listener.heard[0].body["context"] == "gitopsd/mini1"


@pytest.mark.parametrize(
    ("forge", "url", "api"),
    [
        ("github", "git@github.com:me/blog.git", "https://api.github.com"),
        ("github", "https://github.com/me/blog", "https://api.github.com"),
        ("github", "ssh://git@ssh.github.com:443/me/blog.git", "https://api.github.com"),
        ("github", "git@git.example.org:me/blog.git", "https://git.example.org/api/v3"),
        ("gitlab", "git@gitlab.com:group/blog.git", "https://gitlab.com/api/v4"),
        ("gitlab", "ssh://git@git.example.org:2222/group/blog.git", "https://git.example.org/api/v4"),
        ("gitea", "https://git.example.org:3000/me/blog.git", "https://git.example.org:3000/api/v1"),
        ("gitea", "http://git.example.org/me/blog.git", "https://git.example.org/api/v1"),
    ],
)
def test_the_interface_is_where_the_url_of_the_repo_points(forge: str, url: str, api: str) -> None:
    assert forges.api_of(repo_of(forge, url)) == api


def test_the_interface_is_where_the_configuration_says() -> None:
    assert forges.api_of(repo_of("gitea", api="https://elsewhere.org/api/v1/")) == "https://elsewhere.org/api/v1"


@pytest.mark.parametrize("url", ["/srv/remotes/blog.git", "work:me/blog.git", "https://git.example.org:99999/me/blog"])
def test_a_url_that_tells_no_host_needs_the_interface(url: str) -> None:
    with pytest.raises(GitopsdError, match=r"repos\.blog: .*; set statuses\.api"):
        forges.api_of(repo_of("github", url))
    assert "set statuses.api" in forges.post(repo_of("github", url), REVISION, Status(SUCCESS, ""), TOKEN).problem


def test_a_forge_below_a_path_of_its_host_knows_the_repo_without_that_path(listener: Listener) -> None:
    repo = repo_of("gitea", url="http://127.0.0.1/git/me/blog.git", api=f"http://{listener.place}/git/api/v1")
    forges.post(repo, REVISION, Status(SUCCESS, "deployed"), TOKEN)
    assert listener.heard[0].path == f"/git/api/v1/repos/me/blog/statuses/{REVISION}"


@pytest.mark.parametrize(
    ("code", "part", "is_final"),
    [
        (401, "answered 401: the token is not accepted; look at /etc/gitopsd/notify/forge-token", True),
        (403, "answered 403: the token may not do that", True),
        (404, "answered 404: it finds no such repository", True),
        (422, "answered 422: it does not know this revision", True),
        (400, "answered 400", True),
        (429, "answered 429", False),
        (500, "answered 500", False),
        (503, "answered 503", False),
    ],
)
def test_what_the_forge_does_not_take_is_said(listener: Listener, code: int, part: str, is_final: bool) -> None:
    listener.answer = lambda _heard: (code, {}, b'{"message": "\x1b[31m no"}')
    answer = tell(listener)
    assert part in answer.problem
    assert answer.is_final is is_final
    assert answer.problem.isprintable()
    assert TOKEN not in answer.problem


def test_gitlab_is_at_rest_where_the_state_is_there_already(listener: Listener) -> None:
    listener.answer = lambda _heard: (400, {}, b'{"message": "Cannot transition status via :enqueue from :pending"}')
    assert tell(listener, "gitlab", Status(PENDING, "waits")) == Answer()


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_the_token_goes_to_no_other_host(listener: Listener, code: int) -> None:
    with Listener() as other:
        listener.answer = lambda _heard: (code, {"Location": f"http://{other.place}/elsewhere"}, b"")
        answer = tell(listener)
        assert other.heard == []
    assert f"answered {code}: it is elsewhere; correct statuses.api, or url" in answer.problem
    assert answer.is_final


def test_a_forge_that_hangs_is_given_up_in_time(listener: Listener) -> None:
    listener.hang()
    repo = repo_of("github", api=f"http://{listener.place}")
    assert forges.post(repo, REVISION, Status(SUCCESS, ""), TOKEN, limit_sec=0.2) == Answer("no end within 0.2 s")
    listener.free()


def test_a_forge_that_is_not_there_is_asked_again_later() -> None:
    with Listener() as gone:
        place = gone.place
    answer = forges.post(repo_of("github", api=f"http://{place}"), REVISION, Status(SUCCESS, ""), TOKEN)
    assert "Connection refused" in answer.problem
    assert not answer.is_final


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "", "n\u00fc", "\x00"])
def test_what_cannot_be_a_token_is_not_sent_and_not_shown(listener: Listener, token: str) -> None:
    repo = repo_of("github", api=f"http://{listener.place}")
    answer = forges.post(repo, REVISION, Status(SUCCESS, ""), token)
    assert answer.problem == "credential 'forge-token' is no token: it has blanks in it, or other characters"
    assert listener.heard == []
