"""Nets in plain PyTorch that the benchmarks compare with; nothing here needs JAX."""
