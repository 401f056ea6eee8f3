"""Reads weights from the files that other programs wrote, each format without its program."""
