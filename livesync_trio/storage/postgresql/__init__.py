"""PostgreSQL: a database that several servers share."""
