"""Commands, terminal output, exit codes."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from gitopsd.cli.exits import EXIT_BUSY, EXIT_CONFIG, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from gitopsd.errors import BusyError, ConfigError, GitopsdError


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    match sys.argv[1:] if argv is None else argv:
        case ["--config", config, "run", repo] if not repo.startswith("-"):
            # What a daemon starts for each sync: a parser of all commands would be a sixth of the time that it takes.
            from gitopsd.cli import serve

            command: Callable[[], int] = lambda: serve.run(Path(config), repo)  # noqa: E731
        case words:
            command = _parse(words)
    try:
        code = command()
        sys.stdout.flush()
    except ConfigError as error:
        code = _complain(*error.problems, code=EXIT_CONFIG)
    except BusyError as error:
        code = _complain(str(error), code=EXIT_BUSY)
    except GitopsdError as error:
        code = _complain(str(error), code=EXIT_FAILED)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        code = _complain(f"{error.filename or 'the output'}: {error.strerror}", code=EXIT_FAILED)
    except ImportError as error:
        code = _complain(f"{error}: gitopsd is just being upgraded, or not installed as a whole", code=EXIT_FAILED)
    except Exception as error:  # noqa: BLE001 - whatever it is, a person gets one line and not a traceback
        code = _complain(f"a fault in gitopsd: {error!r} at {_place(error)}; please report it", code=EXIT_FAILED)
    sys.exit(code)


def _parse(words: Sequence[str]) -> Callable[[], int]:
    from gitopsd.cli.parser import make_parser

    parser = make_parser()
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        is_config = any(word.partition("=")[0] == "--config" for word in unknown)
        hint = "; --config stands before the command" if is_config else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    if arguments.command is None:
        parser.print_help()
        sys.exit(EXIT_USAGE)
    return lambda: int(arguments.command(arguments))


def _complain(*lines: str, code: int) -> int:
    for line in lines:
        # Some of it may be a stranger's, and must not steer the terminal.
        plain = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
        print(f"gitopsd: {plain}", file=sys.stderr)
    return code


def _place(error: Exception) -> str:
    """Where `error` was raised, as file:line."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{place.filename}:{place.lineno}"
