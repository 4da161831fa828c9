"""GitHub, GitLab and Gitea: tell one of them the status of a commit. HTTP to the outside is spoken only here."""

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from gitopsd import __version__, systemd
from gitopsd.errors import GitopsdError
from gitopsd.notify.news import plain
from gitopsd.notify.patience import all_within
from gitopsd.remotes import normalise_url
from gitopsd.settings import Repo

PENDING, SUCCESS, FAILURE = "pending", "success", "failure"

_LIMIT_SEC = 15.0
_SOCKET_SEC = 10.0
_MAX_TEXT = 140
_MAX_BYTES = 64 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]+")
_ALSO = {"ssh.github.com": "github.com", "altssh.gitlab.com": "gitlab.com"}
_APIS = {"github": "/api/v3", "gitlab": "/api/v4", "gitea": "/api/v1"}
_REDIRECTS = range(300, 400)
_REFUSED = range(400, 500)
_LATER = (408, 425, 429)
_OF_ACCESS = {401: "the token is not accepted", 403: "the token may not do that", 404: "it finds no such repository"}
_NO_SUCH_REVISION = 422
_BAD_REQUEST = 400


class Status(NamedTuple):
    """The state of a commit: PENDING, SUCCESS or FAILURE, and why."""

    state: str
    text: str


class Answer(NamedTuple):
    """What came of it. `problem` is "" where it was taken; `is_final`: the same would come of the same request."""

    problem: str = ""
    is_final: bool = False


def post(repo: Repo, revision: str, status: Status, token: str, *, limit_sec: float = _LIMIT_SEC) -> Answer:
    """Tell the forge of `repo` the status of `revision`. The token goes to no other host, and into no text."""
    try:
        request = _request(repo, revision, status, token)
    except GitopsdError as error:
        return Answer(str(error), is_final=True)
    answers: list[Answer] = []

    def task() -> str:
        answers.append(_answer(repo, request))
        return answers[0].problem

    problem = all_within(limit_sec, {"forge": task})["forge"]
    return answers[0] if answers else Answer(problem)


def api_of(repo: Repo) -> str:
    """Where the forge of `repo` is asked. Raises GitopsdError where nothing tells."""
    assert repo.statuses  # noqa: S101 - who has none has no forge
    if repo.statuses.api:
        return repo.statuses.api.rstrip("/")
    host = normalise_url(repo.url).partition("/")[0]
    host = _ALSO.get(host, host)
    if "." not in host:  # an alias of ssh, or a path
        raise GitopsdError(f"repos.{repo.name}: 'url' does not tell the forge's host; set statuses.api")
    if repo.statuses.forge == "github" and host == "github.com":
        return "https://api.github.com"
    try:
        port = urlsplit(repo.url).port if repo.url.startswith("https://") else None
    except ValueError as error:
        raise GitopsdError(f"repos.{repo.name}: 'url' has a port that is none; set statuses.api") from error
    return f"https://{host}{f':{port}' if port else ''}{_APIS[repo.statuses.forge]}"


def _request(repo: Repo, revision: str, status: Status, token: str) -> urllib.request.Request:
    assert repo.statuses  # noqa: S101
    if not _TOKEN.fullmatch(token):  # a library would show it where it says so
        raise GitopsdError(f"credential '{repo.statuses.token}' is no token: it has blanks in it, or other characters")
    place, headers, states = _FORGES[repo.statuses.forge](_path(repo), token)
    body = {
        "state": states.get(status.state, status.state),
        "description": _cut(status.text),
        "context": repo.statuses.context,
    }
    return urllib.request.Request(  # noqa: S310 - the schema lets no other scheme in
        f"{api_of(repo)}{place}/statuses/{revision}",
        data=json.dumps(body).encode(),
        headers={"User-Agent": f"gitopsd/{__version__}", "Content-Type": "application/json", **headers},
        method="POST",
    )


_Parts = tuple[str, Mapping[str, str], Mapping[str, str]]


def _github(path: str, token: str) -> _Parts:
    return f"/repos/{quote(path)}", {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}, {}


def _gitlab(path: str, token: str) -> _Parts:
    return f"/projects/{quote(path, safe='')}", {"PRIVATE-TOKEN": token}, {FAILURE: "failed"}


def _gitea(path: str, token: str) -> _Parts:
    return f"/repos/{quote(path)}", {"Authorization": f"token {token}"}, {}


_FORGES: Mapping[str, Callable[[str, str], _Parts]] = {"github": _github, "gitlab": _gitlab, "gitea": _gitea}


def _path(repo: Repo) -> str:
    """What the forge calls the repository: OWNER/NAME, with GitLab also GROUP/SUBGROUP/NAME."""
    host, _, path = unquote(normalise_url(repo.url)).partition("/")
    api = urlsplit(api_of(repo))
    # A forge may lie below a path of its host: https://example.org/git/me/blog.git, and /git/api/v1.
    below = api.path.partition("/api/")[0].strip("/")
    return path.removeprefix(f"{below}/") if below and api.hostname == host else path


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token would go along, to whatever host is named."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _answer(repo: Repo, request: urllib.request.Request) -> Answer:
    where = plain(request.full_url.partition("/statuses/")[0])
    try:
        opener = urllib.request.build_opener(_NoRedirect)
        with opener.open(request, timeout=_SOCKET_SEC) as response:
            response.read(_MAX_BYTES)
        return Answer()
    except urllib.error.HTTPError as error:
        with error:
            return _refusal(repo, where, error)
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        return Answer(f"{where}: {plain(str(why)) or type(error).__name__}")


def _refusal(repo: Repo, where: str, error: urllib.error.HTTPError) -> Answer:
    assert repo.statuses  # noqa: S101
    # GitLab does not take a state that the commit has already.
    if error.code == _BAD_REQUEST and b"Cannot transition status" in error.read(_MAX_BYTES):
        return Answer()
    hint = ""
    if error.code in _OF_ACCESS:
        hint = f": {_OF_ACCESS[error.code]}; look at {systemd.NOTIFY_DIRECTORY / repo.statuses.token}"
    elif error.code == _NO_SUCH_REVISION:
        hint = ": it does not know this revision"
    elif error.code in _REDIRECTS:
        hint = ": it is elsewhere; correct statuses.api, or url"
    is_final = error.code in _REDIRECTS or (error.code in _REFUSED and error.code not in _LATER)
    return Answer(f"{where} answered {error.code}{hint}", is_final=is_final)
