"""What units/gitopsd.catalog explains, and whether what is logged brings the fields that an explanation shows."""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gitopsd import journal

PATH = Path(__file__).parents[1] / "units" / "gitopsd.catalog"


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One entry of the catalog."""

    message_id: str
    headers: dict[str, str]
    text: str

    @property
    def shown_fields(self) -> set[str]:
        """The fields that journalctl puts into the subject and the text."""
        return set(re.findall("@([A-Z_]+)@", self.headers["Subject"] + self.text))


def read() -> list[Explanation]:
    """Every entry, in the form that journalctl(1) reads: `-- ID`, headers, an empty line, text."""
    found = []
    for part in re.split(r"^-- ", PATH.read_text(), flags=re.MULTILINE)[1:]:
        message_id, _, rest = part.partition("\n")
        head, _, text = rest.partition("\n\n")
        headers = dict(line.split(": ", 1) for line in head.splitlines())
        found.append(Explanation(message_id=message_id, headers=headers, text=text.strip()))
    return found


def kinds_of(records: Iterable[logging.LogRecord]) -> set[journal.Kind]:
    """The kinds of these log records; each has to bring what the explanation of its kind shows."""
    shown = {each.message_id: each.shown_fields for each in read()}
    entries = [entry for record in records if (entry := journal.entry_of(record.__dict__))]
    for entry in entries:
        missing = shown[entry["MESSAGE_ID"]] - set(entry)
        assert not missing, f"{journal.Kind(entry['MESSAGE_ID']).name} is explained with {missing}: {entry}"
    return {journal.Kind(entry["MESSAGE_ID"]) for entry in entries}
