"""`gitopsd init`: the webhook secrets, what to paste at the provider, and how a tunnel exposes the hook path alone."""

import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from gitopsd import config as configuration
from gitopsd import runner, systemd
from gitopsd.cli import files, terminal
from gitopsd.cli.exits import EXIT_DONE
from gitopsd.discovery import find_repos
from gitopsd.errors import GitopsdError
from gitopsd.model import Config, Receiver
from gitopsd.providers import PROVIDERS
from gitopsd.store import PROOF_NOTE, Store, path_in

_SECRET_BYTES = 32
_NO_HOST = "YOUR.HOST"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?")
_EVERYWHERE = re.compile(r"^(0\.0\.0\.0|\[::\])(?=:)")


def init(config_path: Path, names: Sequence[str], *, host: str, rotate: bool, finish: bool) -> int:
    """Make what is missing for the receivers `names` (or all), or rotate their secrets; say what to do with them."""
    if host and not _HOST.fullmatch(host):
        raise GitopsdError(f"--host {host}: give the public name of this host alone, such as hooks.example.org")
    config = configuration.load(config_path)
    receivers = _chosen(config, names)
    _require_units(config)
    if finish:
        return _finish(config, receivers)
    made = [path for receiver in receivers if (path := _make(receiver, rotate=rotate))]
    if made:
        _restart()
    for line in _text(config, receivers, host or _NO_HOST, made, rotate=rotate):
        print(line)
    return EXIT_DONE


def _chosen(config: Config, names: Sequence[str]) -> list[Receiver]:
    if unknown := [name for name in names if name not in config.receivers]:
        raise GitopsdError(f"there is no receiver '{unknown[0]}'; known: {', '.join(config.receivers)}")
    return [receiver for name, receiver in config.receivers.items() if name in names or not names]


def _require_units(config: Config) -> None:
    if not runner.uses_units(config):
        hint = "export it to gitopsd serve: export GITHUB_WEBHOOK_SECRET=$(openssl rand -hex 32)"
        raise GitopsdError(f"a secret is made for gitopsd.service, and syncs are no units here; {hint}")
    if os.geteuid() != 0:
        raise GitopsdError("only root may write secrets; run: sudo gitopsd init")


def _restart() -> None:
    with terminal.waiting(terminal.console(), f"restarting {runner.DAEMON_UNIT}"):
        runner.restart_daemon()


def _place(receiver: Receiver) -> Path:
    """The file of its first secret; others are the operator's own."""
    return systemd.SECRETS_DIRECTORY / receiver.secrets[0]


def _next(receiver: Receiver) -> Path:
    return systemd.SECRETS_DIRECTORY / f"{receiver.secrets[0]}{systemd.NEXT}"


def _make(receiver: Receiver, *, rotate: bool) -> Path | None:
    """The file that was made, if one was missing."""
    path = _place(receiver)
    if rotate and _is_given_otherwise(receiver):
        raise GitopsdError(
            f"secret '{receiver.secrets[0]}' is loaded by a drop-in; rotate it there, with a second name"
        )
    if rotate and not _value(path):
        raise GitopsdError(f"{path} is not there, so there is nothing to rotate; run: gitopsd init")
    if rotate:
        path = _next(receiver)
    if _value(path) or _is_given_otherwise(receiver):
        return None
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.unlink(missing_ok=True)  # an empty one
    try:
        files.write(path, secrets.token_hex(_SECRET_BYTES) + "\n", mode=0o600)
    except FileExistsError:
        return None  # somebody else was just as quick
    return path


def _value(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


def _is_given_otherwise(receiver: Receiver) -> bool:
    """Whether a drop-in of gitopsd.service loads the secret from elsewhere, encrypted perhaps."""
    return not _value(_place(receiver)) and receiver.secrets[0] in runner.credentials_of_daemon()


# ------------------------------------------------------------------------------------------- the end of a rotation


def _finish(config: Config, receivers: Sequence[Receiver]) -> int:
    """Put the new secrets in the place of the old ones, once every sender that was heard of has the new one."""
    rotated = [receiver for receiver in receivers if _next(receiver).exists()]
    if not rotated:
        raise GitopsdError("no secret is being rotated; a rotation begins with: gitopsd init --rotate")
    store = Store(path_in(config.state_dir), time.time)
    heard = {receiver.name: _heard_of(store, receiver) for receiver in rotated}
    for receiver in rotated:
        _next(receiver).replace(_place(receiver))
        files.sync_directory(systemd.SECRETS_DIRECTORY)
        store.write_note(f"{PROOF_NOTE}{receiver.name}", None)
        print(f"receiver '{receiver.name}': the old secret is no longer accepted ({_place(receiver)} is the new one)")
    _restart()
    if silent := find_repos(config).repos.keys() - set().union(*heard.values()):
        print(f"Not heard from since it began: {', '.join(sorted(silent))}. What is still signed with the old")
        print("secret is refused from now on: the next poll finds what it tells of, and gitopsd status says so.")
    return EXIT_DONE


def _heard_of(store: Store, receiver: Receiver) -> set[str]:
    """The repos whose senders sign with the new secret. Raises GitopsdError if it is too early to drop the old one."""
    began_at = _next(receiver).stat().st_mtime
    proofs: dict[str, dict[str, float]] = store.read_note(f"{PROOF_NOTE}{receiver.name}") or {}
    new = {repo: at for repo, at in proofs.get(_next(receiver).name, {}).items() if at >= began_at}
    old = {repo: at for repo, at in proofs.get(_place(receiver).name, {}).items() if at >= began_at}
    about = f"receiver '{receiver.name}'"
    if late := [repo for repo, at in old.items() if at > new.get(repo, 0.0)]:
        do = "change it there, and have it send something"
        raise GitopsdError(f"{about}: still signed with the old secret: {', '.join(late)}; {do}. Both are accepted yet")
    if not new:
        do = "change it at the provider, and have it send something (a push, or a redelivery)"
        raise GitopsdError(f"{about}: nothing was signed with the new secret yet; {do}. Both are accepted until then")
    return set(new)


# ------------------------------------------------------------------------------------------- what is printed


def _text(
    config: Config, receivers: Sequence[Receiver], host: str, made: Sequence[Path], *, rotate: bool
) -> Iterator[str]:
    for receiver in receivers:
        yield from _secret_lines(receiver, host, made, rotate=rotate)
        yield ""
    if rotate:
        yield "Both secrets are accepted. Once every webhook has the new one and has sent something with it:"
        yield "  gitopsd init --finish"
        return
    yield from _tunnel_lines([_path(receiver) for receiver in receivers], host)
    yield ""
    yield "Next:"
    if not config.repos and not config.roots:
        yield "  gitopsd add URL                           # for each repo"
    if runner.unit_states([runner.SOCKET_UNIT])[runner.SOCKET_UNIT].active != "active":
        yield f"  systemctl enable --now {runner.SOCKET_UNIT}     # from then on deliveries are taken"
    yield "  gitopsd status"


def _secret_lines(receiver: Receiver, host: str, made: Sequence[Path], *, rotate: bool) -> Iterator[str]:
    provider = PROVIDERS[receiver.provider]
    path = _next(receiver) if rotate else _place(receiver)
    value = _value(path)
    rows = [("Payload URL", f"https://{host}{_path(receiver)}"), *provider.form]
    rows.insert(2, ("Secret", value or f"(as it was given to gitopsd.service, credential {receiver.secrets[0]})"))
    if value:
        state = "made just now" if path in made else "as it was"
        yield f"Secret of receiver '{receiver.name}': {path} ({state}; root alone can read it)"
    if not rotate and _value(_next(receiver)):
        yield f"It is being rotated; its successor is {_next(receiver)}: gitopsd init --rotate shows it"
    yield f"To paste at {provider.form_at}"
    for label, text in rows:
        yield f"  {label:<14}{text}"


def _path(receiver: Receiver) -> str:
    """The path of its endpoint."""
    return "/api/webhook/gitops" if receiver.name == configuration.DEFAULT_RECEIVER.name else f"/hook/{receiver.name}"


def _tunnel_lines(paths: Sequence[str], host: str) -> Iterator[str]:
    service = f"http://{_EVERYWHERE.sub('127.0.0.1', runner.address() or '127.0.0.1:8085')}"
    escaped = [path.replace(".", r"\.") for path in paths]
    pattern = escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
    yield "Behind NAT, one of these exposes that path and nothing else."
    yield "  Cloudflare Tunnel, as a route in the dashboard:"
    yield f"    hostname {host}, path ^{pattern}$, service {service}"
    yield "    install -m 600 /dev/stdin /etc/gitopsd/tunnel-token      # its token, then Ctrl-D"
    yield "    systemctl start gitopsd-tunnel"
    yield "  or in a config.yml of your own cloudflared:"
    yield "    ingress:"
    yield f"      - {{hostname: {host}, path: '^{pattern}$', service: '{service}'}}"
    yield "      - {service: http_status:404}"
    yield "  Tailscale Funnel:"
    for path in paths:
        yield f"    tailscale funnel --bg --set-path={path} {service}{path}"
