"""`python -m tests.peers`: the packages that `.ci/peers` has to install."""

from tests.peers import missing_packages

print("\n".join(missing_packages()))
