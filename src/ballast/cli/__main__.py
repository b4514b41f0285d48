"""`python -m ballast.cli`: the same as the `ballast` command."""

from ballast.cli.app import main

main()
