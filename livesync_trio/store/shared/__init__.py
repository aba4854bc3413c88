"""A database that other servers use as well, which PostgreSQL allows (decision 0004): several writers, and news."""
