"""Orders that limit vhosts and users, out of JSON as the API and definitions have it."""

from __future__ import annotations

from typing import Any

from dispatchd.actors.orders import LimitVhost
from dispatchd.actors.user_orders import LimitUser
from dispatchd.model.limits import OF_USERS, OF_VHOSTS, check_limit


def vhost_limit_order(limit: str, value: Any) -> LimitVhost:
    """Limit the vhost that is told; a value of None clears the limit. Raises PreconditionFailed (406)."""
    checked = check_limit(OF_VHOSTS, "limits", limit, 0 if value is None else value)
    return LimitVhost(limit, None if value is None else checked)


def user_limit_order(user: str, limit: str, value: Any) -> LimitUser:
    """Limit a user; a value of None clears the limit. Raises PreconditionFailed (406)."""
    checked = check_limit(OF_USERS, "user-limits", limit, 0 if value is None else value)
    return LimitUser(user, limit, None if value is None else checked)
