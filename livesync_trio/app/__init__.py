"""The server as a whole: the only layer that knows every other, and which engine a database URL stands for."""
