"""Durable storage behind one small interface: plain blocking functions, without actors and without greenlets.

`interface` says what a store is, `lmdb_store` keeps it on disk, `memory_store` for as long as the process lives.
Nobody outside this package imports lmdb.
"""
