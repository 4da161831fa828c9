"""Put very many deliveries into a store, and forget what is too much as the daemon does: deliveries.py CONFIG COUNT.

Many to a transaction, as their number matters here and not their pace. Prints how many are left, as JSON.
"""

import json
import sys
import time
from pathlib import Path

from bench.pushes import body_of, revisions
from gitopsd import config as configuration
from gitopsd.model import Body, Decision, Delivery, Match, Trigger
from gitopsd.store import Store, deliveries, jobs, path_in
from gitopsd.store.database import Connection, Database

_AT_ONCE = 5000


def add(connection: Connection, number: int, revision: str, body: Body, keep: int) -> None:
    """What accepting one delivery writes."""
    repo = f"r{number % 50:03}"
    match = Match(repo=repo, ref="refs/heads/main", revision=revision)
    job = jobs.enqueue(connection, match, Trigger.WEBHOOK, f"delivery-{number}", time.time())
    delivery = Delivery(
        receiver="github",
        delivery_id=f"11111111-2222-3333-4444-{number:012}",
        event="push",
        remote=f"demo/{repo}",
        ref="refs/heads/main",
        revision=revision,
        decision=Decision.ACCEPTED,
        reason="",
        received_at=time.time(),
    )
    number = deliveries.insert(connection, delivery, [(match, job)])
    deliveries.insert_body(connection, number, body, keep)


def main(config_path: Path, count: int) -> None:
    config = configuration.load(config_path)
    path = path_in(config.state_dir)
    store, database = Store(path, time.time), Database(path)
    body = Body(text=body_of("r000", "1" * 40), event_header="push")
    for begin in range(0, count, _AT_ONCE):
        with database.transaction() as connection:
            for number, revision in enumerate(revisions(min(_AT_ONCE, count - begin)), begin):
                add(connection, number, revision, body, config.keep.bodies)
        if store.is_overfull(config.keep):
            store.prune(config.keep)
    store.prune(config.keep)
    left = database.read("SELECT count(*) FROM deliveries", ())[0][0]
    database.close()
    store.close()
    print(json.dumps({"kept": left}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
