"""The change feed: tables of a PostgreSQL database, to any number of clients, in commit order.

Pure: `position`, `pgoutput`, `tables`, `filters`, `values`, `messages`. What is kept: `history`. What reads the
source: `source`, `stream`, `recording`, `reader`. What serves clients: `actor`, `site`, `peer`, `subscription`. It is
imported only with `[feed]`.
"""
