# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""Boots kernels and runs commands in them: the modules behind vm/run, vm/shell and vm/kernels."""

import os
import signal
import sys

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Exit statuses of our own, as timeout(1) and others use them.
STATUS_TIMEOUT = 124
STATUS_FAILED = 125


class HarnessError(Exception):
    """The harness cannot do what was asked; the text says why and what would help."""


def say(text):
    """Tells the person at the terminal what is going on; standard output is the command's."""
    print(f"vm: {text}", file=sys.stderr, flush=True)


def main(name, run):
    """Runs a program's function and exits with the status that it returns."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # An exception, so that what was started is ended and what is temporary removed.
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        status = run()
        sys.stdout.flush()
    except HarnessError as error:
        print(f"{name}: {error}", file=sys.stderr)
        status = STATUS_FAILED
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        # Whoever read the output is gone; nothing more may be written to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except OSError as error:
        print(f"{name}: {error}", file=sys.stderr)
        status = STATUS_FAILED
    sys.exit(status)
