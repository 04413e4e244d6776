"""Whatever is subscribed, ended and moved, in whatever order: the rules of bonds and periods hold.

A model machine over two clients, three companies and four contracts. After every step each contract has one holder
at most and one subscription at most on each day, the subscription is the holder's, and what was decided for a
document stays decided.
"""

import datetime as dt

from hypothesis import strategies as st

from tests.parties.conftest import TODAY

HORIZON = 24  # days around today that are looked at
FIRST = TODAY - dt.timedelta(days=HORIZON // 2)
day_numbers = st.integers(0, HORIZON - 1)
