"""`python -m matchkit` is `matchkit`."""

from matchkit.cli import main

main()
