"""The HTTP API: any program appends and reads events of a store, LiveStore client or not (docs/http-api.md)."""
