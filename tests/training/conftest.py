"""`toy` is shared with the processes that some tests start."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
