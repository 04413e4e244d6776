"""Signed e-mail: what is said, how it is signed, how it is handed to the relay, and what the relay's answer means.

texts.py      the words, French and English
message.py    a Letter becomes a MIME entity and its header fields; mime.py writes them byte by byte
smime.py      sign the entity (multipart/signed) and check the raw bytes of the finished message
compose.py    the three above, once for each delivery, before the first connection
verp.py       the envelope sender that names its delivery, and cannot be forged
transport.py  SMTP to the relay: an Outcome, whatever happens, that knows whether the final dot was sent
reply.py      the only policy: what an answer, or its absence, means for the delivery

Nothing here knows of a queue or a database: delivery/ registers the attempt, calls, and writes the outcome.
"""
