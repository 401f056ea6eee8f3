"""Detectors, one architecture a file; `cvjax.models` has the functions to list and create them."""
