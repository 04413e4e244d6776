"""Signed e-mail: what is said, how it is signed, how it is handed to the relay, and what the relay's answer means.

compose.py    a Letter becomes a finished message, once for each delivery, before the first connection:
  message.py    what the reader sees, as a MIME entity and header fields; mime.py writes them byte by byte
  texts.py      the words, French and English
  smime.py      sign the entity (multipart/signed), check the raw bytes of the finished message
verp.py       the envelope sender that names its delivery, and cannot be forged
transport.py  one attempt: an Outcome, whatever happens
  relay.py      where to, and how, from the settings; the envelope
  dialogue.py   SMTP, which always knows what was asked last and whether the final dot may have been sent
  wire.py       the connection, with TLS over it
reply.py      the only policy: what an answer, or its absence, means for the delivery

Nothing here knows of a queue or a database: delivery/ registers the attempt, calls, and writes the outcome.
"""
