"""`python -m tf_dcnv2` is the command line too."""

import sys

from tf_dcnv2_cli import main

sys.exit(main())
