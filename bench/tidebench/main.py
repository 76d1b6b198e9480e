"""The steps of `bench/run`."""

import shutil
import signal
import tempfile
from pathlib import Path

from . import options as flags
from .processes import Failed
from .report import clear
from .session import Session, say

OK, FAILED, PARTIAL, INTERRUPTED = 0, 1, 3, 130


def main(words):
    """Measures what the flags ask for; gives the exit code."""
    options = flags.parse(words)
    # Both, since a shell has its jobs in the background ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    parent = options.data or options.out
    options.out.mkdir(parents=True, exist_ok=True)
    parent.mkdir(parents=True, exist_ok=True)
    clear(options.out)
    data = Path(tempfile.mkdtemp(prefix="data-", dir=parent))
    session = Session(options, data)
    code = None
    try:
        session.prepare()
        session.run()
    except KeyboardInterrupt:
        say("interrupted")
        code = INTERRUPTED
    except Failed as failure:
        say(f"bench/run: {failure}")
        code = FAILED
    finally:
        session.save()
        shutil.rmtree(data, ignore_errors=True)
    if not session.runs:
        say("bench/run: nothing was measured")
    return exit_code(session) if code is None else code


def interrupt(_signal, _frame):
    """Ends a run in order, what was measured until now reported."""
    raise KeyboardInterrupt


def exit_code(session):
    """What became of a run that came to its end."""
    if not session.runs:
        return FAILED
    return PARTIAL if session.failures else OK
