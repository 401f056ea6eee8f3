"""Finds what is wrong with a data set: files, boxes, labels, and pictures that are there twice."""
