"""This folder decides which examples of a data set train: a fraction of them, and some more often than others."""
