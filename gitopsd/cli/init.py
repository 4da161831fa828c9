"""`gitopsd init`: the webhook secrets, what to paste at the provider, and how a tunnel exposes the hook path alone."""

import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from gitopsd import config as configuration
from gitopsd import files, runner, systemd
from gitopsd.cli import steps, terminal
from gitopsd.cli.endpoints import has_token_in_path, path_of, require_host
from gitopsd.cli.exits import EXIT_DONE
from gitopsd.discovery import find_repos
from gitopsd.errors import GitopsdError
from gitopsd.providers import PROVIDERS
from gitopsd.schemes import HmacScheme
from gitopsd.settings import Config, Receiver
from gitopsd.store import Store, path_in
from gitopsd.store.notes import PROOF_NOTE

_NO_HOST = "YOUR.HOST"
_EVERYWHERE = re.compile(r"^(0\.0\.0\.0|\[::\])(?=:)")


def init(config_path: Path, names: Sequence[str], *, host: str, rotate: bool, finish: bool) -> int:
    """Make what is missing for the receivers `names` (or all), or rotate their secrets; say what to do with them."""
    require_host(host)
    config = configuration.load(config_path)
    receivers = _chosen(config, names)
    _require_units(config, receivers)
    secret_names = list(dict.fromkeys(receiver.secrets[0] for receiver in receivers))
    if finish:
        return _finish(config, secret_names)
    ours = [name for name in secret_names if not _is_given_otherwise(name)]
    if rotate:
        _begin_rotation(config, secret_names, ours)
    made = [path for name in ours if _make(path := _next(name) if rotate else _place(name), _maker(config, name))]
    _refresh()
    for line in _text(config, receivers, host or _NO_HOST, made, rotate=rotate):
        print(line)
    return EXIT_DONE


def _chosen(config: Config, names: Sequence[str]) -> list[Receiver]:
    if unknown := [name for name in names if name not in config.receivers]:
        raise GitopsdError(f"there is no receiver '{unknown[0]}'; known: {', '.join(config.receivers)}")
    return [receiver for name, receiver in config.receivers.items() if name in names or not names]


def _require_units(config: Config, receivers: Sequence[Receiver]) -> None:
    if not runner.uses_units(config):
        variable = systemd.variable_of(receivers[0].secrets[0])
        hint = f"export it to gitopsd serve: export {variable}=$(openssl rand -hex 32); docs/providers.md has the forms"
        raise GitopsdError(f"a secret is made for gitopsd.service, and syncs are no units here; {hint}")
    if os.geteuid() != 0:
        raise GitopsdError("only root may write secrets; run: sudo gitopsd init")


def _place(name: str) -> Path:
    return systemd.SECRETS_DIRECTORY / name


def _next(name: str) -> Path:
    return systemd.SECRETS_DIRECTORY / f"{name}{systemd.NEXT}"


def _value(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace").rstrip("\r\n")
        return text if text.strip() else ""
    except FileNotFoundError:
        return ""


def _is_given_otherwise(name: str) -> bool:
    """Whether the daemon has the secret from elsewhere: a drop-in that loads it, encrypted perhaps, or its environment.

    A credential comes before a file, and a file before a variable; but who has set the variable relies on it.
    """
    is_variable = systemd.variable_of(name) in runner.variables_of_daemon() and not _value(_place(name))
    return is_variable or name in runner.credentials_of_daemon()


def _maker(config: Config, name: str) -> Callable[[], str] | None:
    """What makes a secret of the form that the provider of its receiver wants; None where the sender gives it."""
    return PROVIDERS[_users_of(config, [name])[0].provider].make_secret


def _make(path: Path, maker: Callable[[], str] | None) -> bool:
    """Whether a secret was made, as there was none."""
    if _value(path) or maker is None:
        return False
    path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        files.write(path, f"{maker()}\n", mode=0o600, replace=path.exists())
    except FileExistsError:
        return False  # somebody else was just as quick
    return True


def _refresh() -> None:
    """See to it that the daemon knows the secrets as they are, also if an earlier command was cut off before this."""
    directory = systemd.SECRETS_DIRECTORY
    since = runner.daemon_since()
    if since is None or not directory.exists():
        return
    # The time of a rename, too; with a second to spare, as it may have read them while it started.
    if max(path.stat().st_ctime for path in (directory, *directory.iterdir())) < since - 1:
        return
    with terminal.waiting(terminal.console(), f"restarting {runner.DAEMON_UNIT}"):
        runner.restart_daemon()


# ------------------------------------------------------------------------------------------- a rotation


def _begin_rotation(config: Config, names: Sequence[str], ours: Sequence[str]) -> None:
    """What has to be so before anything is written. Raises GitopsdError."""
    for name in names:
        if name not in ours:
            raise GitopsdError(f"secret '{name}' is not a file of ours; rotate it where it is set, with a second name")
        if _maker(config, name) is None:
            raise GitopsdError(f"what '{name}' holds is made by its sender; name a second one under secrets: instead")
        if not _value(_place(name)):
            raise GitopsdError(f"{_place(name)} is not there, so there is nothing to rotate; run: gitopsd init")
    if fresh := [name for name in names if not _value(_next(name))]:
        store = Store(path_in(config.state_dir), time.time)
        for receiver in _users_of(config, fresh):
            store.write_note(f"{PROOF_NOTE}{receiver.name}", None)  # of an earlier rotation


def _users_of(config: Config, names: Collection[str]) -> list[Receiver]:
    return [receiver for receiver in config.receivers.values() if not set(names).isdisjoint(receiver.secrets)]


def _finish(config: Config, names: Sequence[str]) -> int:
    """Put the new secrets in the place of the old ones, once every sender that was heard of has the new one."""
    rotated = [name for name in names if _value(_next(name))]
    if not rotated:
        _refresh()
        raise GitopsdError("no secret is being rotated; a rotation begins with: gitopsd init --rotate")
    store = Store(path_in(config.state_dir), time.time)
    heard = set().union(*(_heard_of(config, store, name) for name in rotated))
    for name in rotated:
        _next(name).replace(_place(name))
    files.sync_directory(systemd.SECRETS_DIRECTORY)
    _refresh()
    for name in rotated:
        print(f"{_place(name)} is the new secret, and the old one is no longer accepted.")
    if silent := find_repos(config).repos.keys() - heard:
        print(f"Not heard from since it began: {', '.join(sorted(silent))}. What is still signed with the old")
        print("secret is refused from now on: the next poll finds what it tells of, and gitopsd status says so.")
    return EXIT_DONE


def _heard_of(config: Config, store: Store, name: str) -> set[str]:
    """The repos whose senders sign with the new secret. Raises GitopsdError if it is too early to drop the old one."""
    old: dict[tuple[str, str], float] = {}
    new: dict[tuple[str, str], float] = {}
    for receiver in _users_of(config, [name]):
        proofs: dict[str, dict[str, float]] = store.read_note(f"{PROOF_NOTE}{receiver.name}") or {}
        old |= {(receiver.name, repo): at for repo, at in proofs.get(name, {}).items()}
        new |= {(receiver.name, repo): at for repo, at in proofs.get(_next(name).name, {}).items()}
    way_out = f"or drop the old one all the same: mv {_next(name)} {_place(name)} && systemctl restart gitopsd"
    if late := [repo for (receiver, repo), at in old.items() if at > new.get((receiver, repo), 0.0)]:
        do = "change it there, and have it send something (a push, or a redelivery)"
        raise GitopsdError(f"still signed with the old secret '{name}': {', '.join(late)}; {do}, {way_out}")
    if not new:
        do = "change it at the provider, and have it send something (a push, or a redelivery)"
        raise GitopsdError(f"nothing was signed with the new secret '{name}' yet; {do}, {way_out}")
    return {repo for _, repo in new}


# ------------------------------------------------------------------------------------------- what is printed


def _text(
    config: Config, receivers: Sequence[Receiver], host: str, made: Sequence[Path], *, rotate: bool
) -> Iterator[str]:
    for receiver in receivers:
        yield from _secret_lines(receiver, host, made, rotate=rotate)
        yield ""
    if host == _NO_HOST and (not rotate or any(map(has_token_in_path, receivers))):
        yield f"{_NO_HOST} is the public name of this host; this fills it in: gitopsd init --host NAME"
        yield ""
    if rotate:
        yield "Both secrets are accepted. Once every webhook has the new one and has sent something with it:"
        yield "  gitopsd init --finish"
        return
    yield from _tunnel_lines(list(config.receivers.values()), host)
    yield ""
    yield "Next:"
    yield from steps.lines(list(_steps(config)))


def _steps(config: Config) -> Iterator[tuple[str, str]]:
    if not config.repos and not config.roots:
        yield "gitopsd add URL", "for each repo"
    if runner.unit_states([runner.SOCKET_UNIT])[runner.SOCKET_UNIT].active != "active":
        yield f"systemctl enable --now {runner.SOCKET_UNIT}", "from then on deliveries are taken"
    yield "gitopsd status", ""


def _secret_lines(receiver: Receiver, host: str, made: Sequence[Path], *, rotate: bool) -> Iterator[str]:
    provider, name = PROVIDERS[receiver.provider], receiver.secrets[0]
    path = _next(name) if rotate else _place(name)
    is_other = _is_given_otherwise(name)
    value = "" if is_other else _value(path)
    shown = value or (f"(what gitopsd.service is given as '{name}', by a drop-in)" if is_other else "SECRET")
    in_path = has_token_in_path(receiver)
    url = (provider.url_label, f"https://{host}{path_of(receiver)}{f'/{shown}' if in_path else ''}")
    secret = [(provider.secret_label, shown)] if not in_path and provider.make_secret else []
    form = provider.form
    if receiver.header:
        form = tuple(row for row in form if row[0] != "Header")
        secret = _in_header(receiver, shown)
    rows = [url, *form[:1], *secret, *form[1:]]
    if rotate:  # the webhook is there, and this is all that changes
        rows = secret or ([url] if in_path else [])
    if provider.make_secret is None and not value and not is_other:
        yield f"What {receiver.provider} proves itself by (see docs/providers.md) goes into {path}:"
        yield f"  install -m 600 /dev/stdin {path}"
        yield "  systemctl restart gitopsd"
    if value:
        state = "made just now" if path in made else "as it was"
        yield f"Secret of receiver '{receiver.name}': {path} ({state}; root alone can read it)"
    if not rotate and _value(_next(name)):
        yield f"It is being rotated; its successor is {_next(name)}: gitopsd init --rotate shows it"
    if rotate and rows:
        yield f"At {provider.form_at.partition(':')[0]}, in each webhook that is there, in place of the old one:"
    elif rows:
        yield f"To paste at {provider.form_at}"
    width = max((len(label) for label, _ in rows), default=0) + 2
    for label, text in rows:
        yield f"  {label:<{width}}{text}"


def _in_header(receiver: Receiver, secret: str) -> list[tuple[str, str]]:
    """How the sender proves itself in the header that it was told to use."""
    signs = [scheme for scheme in PROVIDERS[receiver.provider].schemes if isinstance(scheme, HmacScheme)]
    if signs:
        return [("Header", f"{receiver.header}: sha256=<HMAC-SHA256 of the body, in hex>"), ("Secret", secret)]
    return [("Header", f"{receiver.header}: {secret}")]


def _tunnel_lines(receivers: Sequence[Receiver], host: str) -> Iterator[str]:
    address = _EVERYWHERE.sub("127.0.0.1", runner.address())
    service = address if address.startswith("unix:") else f"http://{address}"
    name = host.partition(":")[0]  # whoever connects to an edge may name a port, the edge's own rules may not
    escaped = [path_of(each).replace(".", r"\.") + ("/[^/]+" if has_token_in_path(each) else "") for each in receivers]
    pattern = escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
    yield "Behind NAT, one of these exposes that path and nothing else."
    yield "  Cloudflare Tunnel, as a route in the dashboard:"
    yield f"    hostname {name}, path ^{pattern}$, service {service}"
    yield "    cloudflared is not in Debian: https://pkg.cloudflare.com has it, 2025.4.0 or later"
    yield "    install -m 600 /dev/stdin /etc/gitopsd/tunnel-token"
    yield "    Paste the tunnel's token, then press Enter and Ctrl-D. Once that is done, it is switched on with:"
    yield "    systemctl start gitopsd-tunnel"
    yield "  or in a config.yml of your own cloudflared:"
    yield "    ingress:"
    yield f"      - {{hostname: {name}, path: '^{pattern}$', service: '{service}'}}"
    yield "      - {service: http_status:404}"
    if not service.startswith("unix:"):
        yield "  Tailscale Funnel:"
        for receiver, path in zip(receivers, map(path_of, receivers), strict=True):
            yield f"    tailscale funnel --bg --set-path={path} {service}{path}"
            token = "/SECRET" if has_token_in_path(receiver) else ""
            yield f"    and the URL is then https://HOST.TAILNET.ts.net{path}{token}"
