"""Blocks that several architectures are built of."""
