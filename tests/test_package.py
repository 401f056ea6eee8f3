"""The package as installed: what importing it may pull in."""

import subprocess
import sys


def test_import_needs_neither_tensorflow_nor_torch():
    code = "import cvjax, sys; print(sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'tensorflow'" not in loaded
    assert "'torch'" not in loaded
