"""The tests, in folders that mirror the package; `tests/peers` runs the programs that clients and auditors use."""
