"""The admin: a page and JSON over HTTP that show every actor, its mailbox and what the broker holds."""
