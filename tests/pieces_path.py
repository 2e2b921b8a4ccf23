"""Importing this makes `pieces` importable: the folder is a template, not part of the package."""

import sys
from pathlib import Path

TEMPLATES = Path(__file__).parents[1] / "templates"

if str(TEMPLATES) not in sys.path:
    sys.path.insert(0, str(TEMPLATES))
