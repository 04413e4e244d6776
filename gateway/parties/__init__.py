"""Who we deal with, and what they chose: clients, companies, contracts, subscriptions, settings, folders, keys.

registry.py       clients, companies, contracts and their dated bonds; moves; look-up
holders.py        who held a contract on a day
subscriptions.py  which contracts are subscribed, and where their originals go: what decides a document's nature
settings.py       how documents reach a client: e-mail, mailboxes, drop folders
sshkeys.py        the public keys that open a folder
periods.py        spans of days

Every function works in the transaction that it is given, for an actor (access.py), and records each change as
evidence in that transaction. Changes to one client follow one another: each takes the client's row first (`hold`).
What a person is called or where mail reaches them stands in the evidence by id only.
"""
