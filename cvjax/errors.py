"""Errors that are the caller's to mend. Their message is one sentence that names the file and the fix.

Any room may import this module. Commands print such an error as one line and end with status 2;
every other exception is a bug of ours and keeps its traceback.
"""


class UserError(ValueError):
    """Something that the person at the keyboard can put right: a path, a flag, a file."""


class DataError(UserError):
    """A data set that is missing, or a record that is damaged or labeled wrongly."""


class CheckpointError(UserError):
    """A checkpoint that is missing, unreadable, or of another model."""


class ConfigError(UserError):
    """A configuration whose values exclude each other or lie outside what the code can do."""


class DivergedError(UserError):
    """A loss or gradient that is no longer a finite number."""
