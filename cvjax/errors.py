"""Defines the errors that a caller can mend; each message is one sentence that names the file and the fix.

Any room may import this module. Commands print such an error as one line and end with status 2. Every other exception
is a bug of ours, whose traceback is kept in a file.
"""


class UserError(ValueError):
    """Reports a fault that the person at the keyboard can put right: a path, a flag, a file."""


class DataError(UserError):
    """Reports that a data set is missing, or that a record is damaged or labeled wrongly."""


class CheckpointError(UserError):
    """Reports that a checkpoint is missing, unreadable, or of another model."""


class ConfigError(UserError):
    """Reports that the values of a configuration exclude each other or lie outside the limits of the code."""


class DivergedError(UserError):
    """Reports that a loss or gradient is no longer a finite number."""
