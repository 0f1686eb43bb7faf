"""What every command shares: errors without tracebacks, the common arguments."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import InterruptedRunError, PipelineError, is_disk_trouble

EXIT_USER_ERROR = 2
EXIT_DISK = 74  # EX_IOERR of sysexits.h: the same command can go on when the disk has room again
EXIT_INTERRUPTED = 130


def parser(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    """An argument parser whose help ends with runnable examples."""
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_runs(to: argparse.ArgumentParser) -> None:
    """`--runs`, the folder that holds every study and run."""
    to.add_argument(
        "--runs",
        type=Path,
        default=Path(os.environ.get("PIPELINE_RUNS", "runs")),
        metavar="DIR",
        help="folder of all studies and runs (default: PIPELINE_RUNS or ./runs)",
    )


def add_data(to: argparse.ArgumentParser, missing: str) -> None:
    """`--data`, the packed data set; `missing` says what happens without one."""
    found = os.environ.get("PIPELINE_DATA")
    to.add_argument(
        "--data",
        type=Path,
        default=Path(found) if found else None,
        metavar="DIR",
        help=f"packed data set (default: PIPELINE_DATA, else {missing})",
    )


def add_overrides(to: argparse.ArgumentParser) -> None:
    """`--set a.b=c`, repeated."""
    to.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one configuration value, as in --set train.lr=3e-4 (repeatable)",
    )


def positive(text: str) -> int:
    """The type of an argument that is a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number of at least 1 is needed")
    return int(text)


def run(main: Callable[[], None]) -> None:
    """Calls `main` and ends the process: user errors in one line, Ctrl-C without a traceback."""
    try:
        main()
    except InterruptedRunError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(_exit_code(error))
    except BrokenPipeError:  # the reader (head, less) left; nothing more to say
        sys.stderr.close()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        remedy = "check that the path is right, may be written and has room"
        print(f"error: {where}{error.strerror or error}; {remedy}", file=sys.stderr)
        sys.exit(_exit_code(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except RuntimeError as error:
        if not is_disk_trouble(error):  # torch says it in its own way
            raise
        print(f"error: a checkpoint could not be written: {error}; make room and try again", file=sys.stderr)
        sys.exit(EXIT_DISK)


def _exit_code(error: BaseException) -> int:
    return EXIT_DISK if is_disk_trouble(error) else EXIT_USER_ERROR
