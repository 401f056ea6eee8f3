"""Computes the scores of segmentation: regions, their borders, and cells."""
