"""Sockets: listeners, and the reader and the writer of each connection."""
