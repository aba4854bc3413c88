"""What the feed keeps: the changes in order, the rows as they are now, and how far the source was read.

One contract on two kinds of databases (`databases`): `writing` is used by the one who reads the source, `reading` by
all who serve clients, `compacting` leaves old changes out. Why it is stored so: decision 0016.
"""
