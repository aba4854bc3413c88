"""Who is this, and what may they do: one answer for WebSockets and HTTP requests.

`Access.admit` asks everybody who may object and gives a `Client`, or a refusal. Knows neither sockets nor stores.
"""
