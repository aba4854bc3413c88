"""Storage: durable logs behind one contract (`base`). Synchronous; knows no Trio and no wire."""
