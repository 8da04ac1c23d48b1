from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.amqp.errors import AccessRefused, NotFound, PreconditionFailed
from dispatchd.model.access import Access, Rights, TopicRights
from dispatchd.model.definitions import VhostDefinition
from dispatchd.model.stored_definitions import read_rows, user_records, vhost_row
from dispatchd.model.users import User, Users

FILE = User("file", "hash", "bcrypt", ["administrator"], is_of_file=True)
ALL = Rights(".*", ".*", ".*")


@pytest.fixture
def users() -> Users:
    users = Users([FILE])
    users.put("ann", "hash", "bcrypt", ["management"])
    users.set_rights("ann", "/", ALL)
    return users


def restored(rows: dict[bytes, bytes | None], vhosts: list[str]) -> Users:
    users = Users()
    users.restore(user_records({key: value for key, value in rows.items() if value is not None}), vhosts)
    return users


texts = st.text(max_size=5)


@given(texts, texts, st.lists(texts), st.dictionaries(texts, st.tuples(texts, texts)))
def test_a_user_outlives_the_broker(name: str, hash: str, tags: list[str], topics: dict[str, tuple[str, str]]) -> None:
    users = Users()
    rows = dict(users.put(name, hash, "bcrypt", tags))
    rows |= dict(users.set_rights(name, "v", Rights("a", "", "c")))
    for exchange in topics:
        rows |= dict(users.set_topic_rights(name, "v", exchange, TopicRights("a", "{username}")))
    assert len(rows) == 1
    assert restored(rows, ["v"]).get(name).to_record() == users.get(name).to_record()


def test_users_are_of_no_vhost() -> None:
    made = [*Users().put("ann", "", "bcrypt", []), vhost_row(VhostDefinition("/"))]
    rows = {key: value for key, value in made if value is not None}
    assert list(read_rows(rows)) == ["/"]
    assert [record["name"] for record in user_records(rows)] == ["ann"]


def test_rights_in_vhosts_that_are_gone_go(users: Users) -> None:
    users.set_rights("ann", "gone", ALL)
    rows = dict(users.set_topic_rights("ann", "gone too", "x", TopicRights("", "")))
    again = Users()
    [(_, changed)] = again.restore(user_records({key: value for key, value in rows.items() if value}), ["/"])
    assert changed is not None
    assert list(json.loads(changed)["record"]["permissions"]) == ["/"]
    assert again.get("ann").topics == {}


def test_one_access_is_shared_and_follows_every_change(users: Users) -> None:
    access = users.access("ann", "/")
    assert access is not None
    assert users.access("ann", "/") is access
    access.check_publish("x")
    changes: list[Callable[[], object]] = [
        lambda: users.set_rights("ann", "/", Rights("", "", "")),
        lambda: users.clear_rights("ann", "/"),
        lambda: users.delete("ann"),
        lambda: users.forget_vhost("/"),
    ]
    for change in changes:
        change()
        with pytest.raises(AccessRefused):
            access.check_publish("x")
        if users.find("ann") is None:
            users.put("ann", "hash", "bcrypt", [])
        users.set_rights("ann", "/", ALL)
        access = _access(users, "ann", "/")
        access.check_publish("x")
    users.put("ann", None, "bcrypt", ["impersonator"])
    assert access.may_impersonate


def _access(users: Users, name: str, vhost: str) -> Access:
    access = users.access(name, vhost)
    assert access is not None
    return access


def test_who_may_not_come_in(users: Users) -> None:
    assert users.access("nobody", "/") is None
    assert users.access("ann", "v") is None
    assert users.access("file", "whatever") is not None


def test_users_of_the_file_are_not_changed(users: Users) -> None:
    for change in (
        lambda: users.put("file", "", "bcrypt", []),
        lambda: users.delete("file"),
        lambda: users.set_rights("file", "/", ALL),
        lambda: users.clear_rights("file", "/"),
        lambda: users.set_topic_rights("file", "/", "x", TopicRights("", "")),
        lambda: users.clear_topic_rights("file", "/", None),
    ):
        with pytest.raises(PreconditionFailed, match="user 'file' is of the configuration file"):
            change()
    assert users.get("file") is FILE


def test_what_is_not_there_is_denied(users: Users) -> None:
    for change in (
        lambda: users.delete("bob"),
        lambda: users.set_rights("bob", "/", ALL),
        lambda: users.clear_rights("bob", "/"),
        lambda: users.clear_rights("ann", "v"),
        lambda: users.clear_topic_rights("ann", "/", None),
        lambda: users.clear_topic_rights("ann", "/", "x"),
    ):
        with pytest.raises(NotFound):
            change()


@pytest.mark.parametrize("field", ["configure", "write", "read"])
def test_a_bad_expression_changes_nothing(users: Users, field: str) -> None:
    access = _access(users, "ann", "/")
    with pytest.raises(PreconditionFailed, match="no regular expression that can be used: missing"):
        users.set_rights("ann", "/", Rights(**{"configure": "", "write": "", "read": ""} | {field: "("}))
    access.check_publish("x")
    if field != "configure":
        with pytest.raises(PreconditionFailed, match="no regular expression"):
            users.set_topic_rights("ann", "/", "x", TopicRights(**{"write": "", "read": ""} | {field: "["}))
        assert users.get("ann").topics == {}


def test_topic_rights_go_one_by_one(users: Users) -> None:
    for exchange in ("x", "y"):
        users.set_topic_rights("ann", "/", exchange, TopicRights("a", "b"))
    users.clear_topic_rights("ann", "/", "x")
    assert list(users.get("ann").topics["/"]) == ["y"]
    users.clear_topic_rights("ann", "/", "y")
    assert users.get("ann").topics == {}


def names(users: Users) -> set[str]:
    return {user.name for user in users}


def test_other_users_of_the_file_hide_stored_ones_and_let_them_be_seen_again(users: Users) -> None:
    held = users.access("file", "/")
    other = User("ann", "other", "bcrypt", ["administrator"], is_of_file=True)
    assert users.replace_those_of_file([other]) == ["file"]
    assert names(users) == {"ann"}
    assert users.get("ann") is other
    assert held is not None
    with pytest.raises(AccessRefused):
        held.check("write", "queue", "q")
    stored = users.forget_vhost("/")
    assert len(stored) == 1
    assert users.replace_those_of_file([FILE]) == []
    assert names(users) == {"ann", "file"}
    assert (users.get("ann").hash, users.get("ann").rights) == ("hash", {})
    assert users.replace_those_of_file([]) == ["file"]


def test_who_is_made_anew_while_hidden_stays(users: Users) -> None:
    users.hide("ann")
    users.put("ann", "new", "bcrypt", [])
    assert users.replace_those_of_file([FILE]) == []
    assert users.get("ann").hash == "new"
