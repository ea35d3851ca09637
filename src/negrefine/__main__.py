"""`python -m negrefine` is the command `negrefine`."""

from negrefine.cli import main

main()
