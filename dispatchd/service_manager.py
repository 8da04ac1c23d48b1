"""What systemd, or who else started this process, is told of it (sd_notify(3)); nothing where nobody wants to know."""

from __future__ import annotations

import os
import socket
import time


def notify(state: str) -> None:
    """Tell it one state such as "READY=1", with the text of what is under way; nobody is waited for."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if state == "RELOADING=1":
        state += f"\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_manager:
        try:
            to_manager.setblocking(False)
            to_manager.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
        except OSError:
            pass  # it went away, or is too busy: no reason to serve no messages
