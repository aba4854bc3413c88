"""The change feed: tables of a PostgreSQL database, to any number of clients, in commit order.

Pure: `position`, `pgoutput`, `tables`, `filters`, `values`, `messages`. What is kept: `history`. What reads the
source: `source`, `stream`, `recording`, `reader`. Who is served: `actor`, `peer`, `site`. Imported only with `[feed]`.
"""
