"""Makes `toy` importable for the tests of this folder and for the processes that they start."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
