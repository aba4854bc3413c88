"""Logs on their way in and out: export files, other servers' tables, backups, and the checks on all of them.

Owns the file formats, the readers of foreign sources, and how a log comes into a database as a whole or not at all.
Synchronous; knows storage by its contract only, no engine by name, and nothing of Trio or the command line.
"""
