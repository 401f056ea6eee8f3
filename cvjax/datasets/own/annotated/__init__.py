"""Holds images whose annotations are objects with boxes and outlines, whatever format they were read from."""
