"""What is to be done next: comments in one column."""

from gitopsd.cli import steps


def test_comments_begin_in_one_column_and_a_line_without_one_ends_with_its_command() -> None:
    said = list(steps.lines([("gitopsd add URL", "for each repo"), ("ls", "first"), ("a longer one without", "")]))
    assert said == ["  gitopsd add URL  # for each repo", "  ls               # first", "  a longer one without"]
