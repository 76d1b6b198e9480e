"""What a service has done: its database, one JSON object a line, shared by all its processes."""

import fcntl
import json


class Journal:
    """An event is applied once, whichever process gets it and however often.

    Every entry is written under a lock, after whatever other processes have written was read: so
    each sees what all have done. A process that is killed gives the lock back.
    """

    def __init__(self, path, learn=lambda entry: None):
        """`learn` is told each applied entry once, those of other processes too."""
        self.learn = learn
        self.done = set()
        self.file = open(path, "a+b")
        self.read_to = 0

    def record(self, event_id, make_entry):
        """Applies an event with the entry that `make_entry()` makes, and returns that; or None for a
        replay, which is written down too."""
        fcntl.flock(self.file, fcntl.LOCK_EX)
        try:
            self._catch_up()
            replay = event_id in self.done
            entry = {} if replay else make_entry()
            line = {"event_id": event_id, "replay": replay, **entry}
            self.file.write(json.dumps(line).encode() + b"\n")
            self.file.flush()
            self._catch_up()
            return None if replay else entry
        finally:
            fcntl.flock(self.file, fcntl.LOCK_UN)

    def _catch_up(self):
        # Writes go to the end; what is read begins where it ended the last time.
        self.file.seek(self.read_to)
        for line in self.file:
            if not line.endswith(b"\n"):
                # Its writer was killed within it, so it was never done.
                self.file.truncate(self.read_to)
                return
            self.read_to += len(line)
            entry = json.loads(line)
            if not entry["replay"]:
                self.done.add(entry["event_id"])
                self.learn(entry)
