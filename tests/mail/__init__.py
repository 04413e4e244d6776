"""Signed mail: written, signed, handed to relays that behave and to relays that do not."""
