"""The fault matrix: ``python -m chaos``."""

import sys

from chaos import faults

if __name__ == "__main__":
    faults.restart_with_shim("chaos")
    from chaos.matrix import main

    sys.exit(main())
