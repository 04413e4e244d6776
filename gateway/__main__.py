"""`python -m gateway` is `gateway`."""

from .cli import main

main()
