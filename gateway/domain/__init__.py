"""The nouns of the gateway: tables and rules, no I/O. This page is the glossary.

Parties      A *client* is the party we deal with: it has users, folders and settings. A *company* (SIREN)
             belongs to one client at a time, a *contract* to one company at a time, both with dates.
Document     What the issuer's billing system hands in: invoice, credit note, corrected invoice, or one of
             the four kinds that have no nature. It belongs for ever to the holder on its issue date.
Nature       *original*, *platform_copy* or *duplicate*; decided once, at acceptance, and kept with its reason.
Seal         The electronic seal (PAdES) of an organisation on a document; not a signature (S/MIME, DKIM).
Subscription A contract's subscription to the electronic invoice, dated, with who consented to which terms.
Delivery     One document to one destination over one channel. An *attempt* is one try.
Folder       A client's drop folder; an *entry* is one published name in it; a *receipt* is the fact that
             takes an entry out of the inbox, as the folder's receipt mode says.
Mailbox      An e-mail address of a client, referred to by id everywhere but in its own row.
Record       One fact in the ledger of evidence.

states.py holds every word of state and the moves between them. "Sent" and "delivered" are used for nothing else.
"""
