"""The embedded set `scenes`."""
