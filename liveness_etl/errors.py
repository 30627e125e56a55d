"""What can go wrong, as one small hierarchy.

    LivenessError                what a user can cause or meet: one sentence, no traceback
    ├── UsageError        exit 2 wrong usage or configuration; nothing was called
    │   ├── ConfigError          a bad key or value, named with its file
    │   ├── ManifestError        no session_id column, unknown extension, …
    │   │   └── NoManifest       nothing is there
    │   ├── NewerContract        a newer version of this program wrote what this one would have to read or replace
    │   └── LeaseHeld            another run sweeps this source
    ├── StoreError        exit 1 the output cannot be read or written
    │   ├── Unavailable          the store does not answer or is too busy: the same again may work
    │   ├── Conflict             a conditional write met something else (caught by publish and the lease)
    │   └── Missing              a listed object is gone (caught by publish)
    ├── AlertFailed              an alert could not be sent: a log line, never the end of a run
    ├── SourceStopped     exit 3 one source cannot be asked any further (credentials, denials)
    └── Stopped           exit 3 a signal came before anything was asked

Every message says what happened and what to do about it, and holds neither image data nor a session id.
"""


class LivenessError(Exception):
    """Base of all errors with a sentence for the user."""

    exit_code = 1


class UsageError(LivenessError):
    """Wrong usage, configuration or manifest: found before any call."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key that does not exist or has a value that cannot be."""


class ManifestError(UsageError):
    """The manifest as a whole cannot be read (a bad line is a reject, not an error)."""


class NoManifest(ManifestError):
    """There is no manifest at this place, or none of this date yet."""


class NewerContract(UsageError):
    """A file of the output was written by a newer version of this program, which alone knows what it means."""


class LeaseHeld(UsageError):
    """The source is being swept by another run."""


class StoreError(LivenessError):
    """The output (or the image store) cannot be read or written."""


class Unavailable(StoreError):
    """The store did not answer, or said that it is too busy: the same again may work."""


class Conflict(StoreError):
    """A conditional write found another version than the one it expected."""


class AlertFailed(LivenessError):
    """An alert could not be sent. It never ends a run, nor stands in the way of the run's own error."""


class SourceStopped(LivenessError):
    """A source that cannot be asked any further in this run; the other sources go on."""

    exit_code = 3


class Stopped(LivenessError):
    """The run was told to stop before it had asked anything."""

    exit_code = 3


class Missing(StoreError):
    """An object that was listed a moment ago is gone (another publish or fold took it)."""
