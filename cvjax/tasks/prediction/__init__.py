"""Predicts many photographs of any size: finds them, reads ahead, batches, joins, and writes the results.

A task says with a `BatchPredictor` (`pieces.py`) which pieces its net sees of an image; `stream.py` calls it. The
modules `..._results.py` write what a task found. No module here imports a task.
"""
