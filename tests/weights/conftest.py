"""Puts this folder's helper module on the path: tests are not a package."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
