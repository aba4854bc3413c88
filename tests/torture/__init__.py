"""Attacks on a real server process: crashes, disks, networks, clients, time (`scripts/torture`)."""
