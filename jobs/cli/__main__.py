"""`python -m jobs.cli` is `tsfleet`."""

from jobs.cli.main import main

main()
