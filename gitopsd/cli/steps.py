"""What a person is to do next, as lines to paste into a shell."""

from collections.abc import Iterator, Sequence


def lines(steps: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Commands with their comments, which begin in one column."""
    width = max((len(command) for command, comment in steps if comment), default=0)
    for command, comment in steps:
        yield f"  {command:<{width}}  # {comment}" if comment else f"  {command}"
