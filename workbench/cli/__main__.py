"""`python -m workbench.cli`: what the command `workbench` does."""

import sys

from workbench.cli.main import main

sys.exit(main())
