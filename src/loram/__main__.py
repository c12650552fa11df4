"""`python -m loram`."""

from loram.cli import main

main()
