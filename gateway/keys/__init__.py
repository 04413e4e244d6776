"""Private keys and what is done with them.

load.py reads a key with its certificates, cms.py signs and checks CMS SignedData (RFC 5652), trust.py
decides whether a certificate leads to a root that we were told to trust. Nothing here knows what is being
signed: sealing/ puts a CMS into a PDF, mail/ into a message.
"""
