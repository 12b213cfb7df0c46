"""`python -m flashctl.core.service.workers`: see `child`."""

from __future__ import annotations

import sys

from flashctl.core.service.workers.child import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
