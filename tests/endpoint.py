"""One receiver of one provider, with the application behind it on a real store; and how senders prove themselves."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from falcon import testing

from gitopsd import routing
from gitopsd.model import Event, Secret
from gitopsd.receiver import Serving, create_app
from gitopsd.settings import Config, Receiver, Repo
from gitopsd.store import Store, path_in

NOW = 1_700_000_000.0
KEY = "It's a Secret to Everybody"


class Endpoint:
    """The receiver is open with the secrets that it is given; `repo` is the one repo that there is."""

    def __init__(self, root: Path, provider: str, repo: Repo, *secrets: str, **rules: Any) -> None:
        config = Config(
            source=root / "gitopsd.yaml",
            state_dir=root / "state",
            engine=root / "engine",
            receivers={"here": Receiver(name="here", provider=provider, secrets=("one",), **rules)},
        )
        store = Store(path_in(config.state_dir), lambda: NOW)
        serving = Serving(
            config=config,
            store=store,
            repos={repo.name: repo},
            secrets={"here": tuple(Secret(f"secret-{number}", each.encode()) for number, each in enumerate(secrets))},
            closed={},
        )
        app = create_app(lambda: serving, rescan=dict, wake=lambda: None, dispatcher_problem=str, clock=lambda: NOW)
        self.store = store
        self.close = store.close
        self._client = testing.TestClient(app)

    def post(self, body: bytes, headers: Mapping[str, str], path: str = "/hook/here") -> testing.Result:
        return self._client.simulate_post(path, body=body, headers=dict(headers))


class Endpoints:
    """Makes endpoints, each with a place of its own below `root`; they are closed together."""

    def __init__(self, root: Path) -> None:
        self.root, self.made = root, list[Endpoint]()

    def __call__(self, provider: str, repo: Repo, *secrets: str, **rules: Any) -> Endpoint:
        self.made.append(Endpoint(self.root / str(len(self.made)), provider, repo, *secrets, **rules))
        return self.made[-1]

    def close(self) -> None:
        for each in self.made:
            each.close()


def repo_of(url: str, ref: str = "main") -> Repo:
    return Repo(name="blog", url=url, ref=ref, path=Path("/srv/blog"))


def reason_for(event: Event, repo: Repo, **rules: Any) -> str:
    """Why `event` leads to no job at a receiver with these rules, or "" where it does."""
    return routing.route(event, [repo], Receiver(name="here", provider="github", secrets=("one",), **rules))[1]


def hex_of(body: bytes, algorithm: str = "sha256", key: str = KEY) -> str:
    return hmac.new(key.encode(), body, algorithm).hexdigest()


def indented(payload: Mapping[str, Any]) -> bytes:
    return json.dumps(payload, indent=2).encode()


def proofs_of_others(body: bytes) -> dict[str, dict[str, str]]:
    """How one sender or another would prove `body` with the right secret, and with the event that goes with it."""
    return {
        "github": {"X-GitHub-Event": "push", "X-Hub-Signature-256": f"sha256={hex_of(body)}"},
        "github, long ago": {"X-GitHub-Event": "push", "X-Hub-Signature": f"sha1={hex_of(body, 'sha1')}"},
        "bitbucket": {"X-Event-Key": "repo:push", "X-Hub-Signature": f"sha256={hex_of(body)}"},
        "gitlab": {"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": KEY},
        "gitea": {"X-Gitea-Event": "push", "X-Gitea-Signature": hex_of(body)},
        "forgejo": {"X-Forgejo-Event": "push", "X-Forgejo-Signature": hex_of(body)},
        "gogs": {"X-Gogs-Event": "push", "X-Gogs-Signature": hex_of(body)},
        "soft-serve": {"X-SoftServe-Event": "push", "X-SoftServe-Signature": f"sha256={hex_of(body)}"},
        "anything": {"X-Signature": f"sha256={hex_of(body)}"},
        "a bearer": {"Authorization": f"Bearer {KEY}"},
        "nobody": {},
        "a plain digest": {"X-Gitea-Signature": hashlib.sha256(body).hexdigest()},
    }
