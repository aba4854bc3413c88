"""The HTTP API: any program appends and reads events of a store, without being a LiveStore client (docs/http-api.md)."""
