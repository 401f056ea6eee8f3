"""This folder has the commands that prepare a training run."""
