"""Load programs: each prints one JSON object, its result, on a line of its own.

Objects with the key "event" come before it and ask for something.
"""

import json
import time

from .processes import Failed, Process


def run_load(command, log, within, on_event=None):
    """Runs a load to its end and gives its result; `on_event` gets each event as it comes."""
    process = Process(command, log, read_stdout=True)
    deadline = time.monotonic() + within
    result = None
    try:
        while (line := process.line(deadline)) is not None:
            said = parse(line)
            if said and "event" in said:
                on_event(said)
            elif said:
                result = said
        code = process.child.wait(max(1, deadline - time.monotonic()))
    finally:
        process.stop(5)
    if code != 0:
        raise Failed(f"{process.name} ended with {code}: {process.tail()}")
    if result is None:
        raise Failed(f"{process.name} printed no result: {process.tail()}")
    return result


def parse(line):
    """The object of a line, or None for a line that is none."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
