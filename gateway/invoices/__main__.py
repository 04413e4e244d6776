"""`python -m gateway.invoices DIRECTORY`: Factur-X invoices of nobody to hand in, for whoever tries the gateway.

They are dated today (UTC), from the seller and for the contract and the buyer that it names. What is there stays.
"""

import argparse
from pathlib import Path

from .. import clock
from . import CONTRACTS, DISTRIBUTOR, series


def main() -> None:
    """Write them, and say what the gateway must know to take them."""
    parser = argparse.ArgumentParser(prog="python -m gateway.invoices", description=main.__doc__)
    parser.add_argument("directory", type=Path, help="made where it is missing")
    parser.add_argument("--count", type=int, default=3, help="so many (3)")
    parser.add_argument("--first", type=int, default=1, help="serial number of the first (1)")
    wanted = parser.parse_args()
    buyer, contract = CONTRACTS[0]
    wanted.directory.mkdir(parents=True, exist_ok=True)
    for facts, content in series(wanted.count, clock.now().date(), wanted.first, CONTRACTS[:1]):
        path = wanted.directory / f"{facts.number}.pdf"
        if not path.exists():
            path.write_bytes(content)
        print(path)
    print(f"seller {DISTRIBUTOR.siren}, buyer {buyer.siren}, contract {contract.number}")


if __name__ == "__main__":
    main()
