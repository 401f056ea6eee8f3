"""Reads and writes the files of PyTorch without PyTorch, and without running what they name."""
