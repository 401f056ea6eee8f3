"""Finds the images of data sets that have a folder for each class."""
