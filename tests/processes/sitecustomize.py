"""What Python does first in a process that a test starts: it collects garbage rarely.

Half a million objects are imported and stay; visiting them again and again, and once more at the
end, is a third of the time of a process that does little else.
"""

import atexit
import gc

gc.set_threshold(500_000, 50, 1000)
atexit.register(gc.freeze)
