"""This folder keeps a run from harm: wrong values, damaged files, a second run in its folder, a terminal that fails."""
