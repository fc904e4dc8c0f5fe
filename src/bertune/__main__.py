"""`python -m bertune` is `bertune`."""

import sys

from bertune.cli.main import main

sys.exit(main())
