"""`python -m liveness_etl`."""

from liveness_etl.cli import main

main()
