"""`python -m cross_instance.cli` is `cross-instance`."""

from cross_instance.cli import main

main()
