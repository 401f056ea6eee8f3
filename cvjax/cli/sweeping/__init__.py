"""Searches settings of a run by many runs; the command is `cvjax sweep`."""
