"""The topic exchange: words between dots, `*` for one word, `#` for any number of words, none included."""

from typing import Final

from mypy_extensions import i64

from dispatchd.amqp.message import Message
from dispatchd.model.binding import Binding, BindingKey, Destination
from dispatchd.model.exchanges.table import RoutingTable, distinct_destinations

# How much the cache of results may hold: a key counts one, and so does each destination in its result.
CACHE_LIMIT: Final = 100_000


def split_words(key: str) -> list[str]:
    """The words of a key or a pattern: the empty key has none, while `a..b` has an empty one (as in RabbitMQ)."""
    return key.split(".") if key else []


class TopicNode:
    """A place in the trie of patterns, reached by the words before it."""

    __slots__ = ("any_one", "any_words", "bindings", "reached_in", "repeats", "words")

    def __init__(self, repeats: bool) -> None:
        self.words: dict[str, TopicNode] = {}
        self.any_one: TopicNode | None = None  # what follows `*`
        self.any_words: TopicNode | None = None  # what follows `#`
        self.repeats = repeats  # this is what follows `#`: any word leads back here
        self.reached_in: i64 = 0  # the last search that reached it, if it repeats
        self.bindings: dict[BindingKey, Binding] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no pattern needs it."""
        return not self.bindings and not self.words and self.any_one is None and self.any_words is None

    def child(self, word: str) -> "TopicNode | None":
        """What follows a word of a pattern."""
        if word == "*":
            return self.any_one
        if word == "#":
            return self.any_words
        return self.words.get(word)

    def put_child(self, word: str, node: "TopicNode | None") -> None:
        """Makes `node` follow a word of a pattern; nothing, if it is None."""
        if word == "*":
            self.any_one = node
        elif word == "#":
            self.any_words = node
        elif node is None:
            del self.words[word]
        else:
            self.words[word] = node


class TopicTable(RoutingTable):
    """A trie of the patterns' words, searched for all patterns at once, and a cache of what keys matched.

    The search follows all places that the words so far can have reached. A place after `#`, once reached, stays
    reached, so that no key of w words costs more than w times the number of places, whatever the patterns are.
    """

    def __init__(self) -> None:
        super().__init__()
        self._root = TopicNode(False)
        self._searches: i64 = 0
        self._matched: dict[str, list[Destination]] = {}
        self._matched_size: i64 = 0

    def added(self, binding: Binding) -> None:
        """Adds the pattern's words to the trie."""
        node = self._root
        for word in split_words(binding.routing_key):
            following = node.child(word)
            if following is None:
                following = TopicNode(word == "#")
                node.put_child(word, following)
            node = following
        node.bindings[binding.key] = binding
        self._forget_matched()

    def removed(self, binding: Binding) -> None:
        """Removes the binding, and the words of its pattern that no other pattern needs."""
        words = split_words(binding.routing_key)
        path = [self._root]
        for word in words:
            following = path[-1].child(word)
            assert following is not None, f"{binding!r} was never added"
            path.append(following)
        del path[-1].bindings[binding.key]
        for position in range(len(words) - 1, -1, -1):
            if not path[position + 1].is_empty:
                break
            path[position].put_child(words[position], None)
        self._forget_matched()

    def match(self, message: Message) -> list[Destination]:
        """The destinations whose pattern matches the whole key."""
        key = message.routing_key
        found = self._matched.get(key)
        if found is not None:
            return found
        found = self._search(split_words(key))
        cost: i64 = 1 + len(found)
        if self._matched_size + cost > CACHE_LIMIT:
            self._forget_matched()
        self._matched_size += cost
        self._matched[key] = found
        return found

    def _forget_matched(self) -> None:
        self._matched.clear()
        self._matched_size = 0

    def _search(self, words: list[str]) -> list[Destination]:
        self._searches += 1
        reached: list[TopicNode] = []
        repeating: list[TopicNode] = []  # they stay reached
        self._reach(self._root, reached, repeating)
        for word in words:
            before = reached
            reached = []
            stay: i64 = len(repeating)  # what this word adds after them sees only the next word
            for node in before:
                self._follow(node, word, reached, repeating)
            for position in range(stay):
                self._follow(repeating[position], word, reached, repeating)
        bindings: list[Binding] = []
        for node in reached:
            bindings.extend(node.bindings.values())
        for node in repeating:
            bindings.extend(node.bindings.values())
        return distinct_destinations(bindings)

    def _follow(self, node: TopicNode, word: str, reached: list[TopicNode], repeating: list[TopicNode]) -> None:
        following = node.words.get(word)
        if following is not None:
            self._reach(following, reached, repeating)
        if node.any_one is not None:
            self._reach(node.any_one, reached, repeating)

    def _reach(self, node: TopicNode, reached: list[TopicNode], repeating: list[TopicNode]) -> None:
        """Notes a place as reached, and what follows a `#` for no word at all."""
        if node.repeats:
            if node.reached_in == self._searches:
                return
            node.reached_in = self._searches
            repeating.append(node)
        else:
            reached.append(node)
        if node.any_words is not None:
            self._reach(node.any_words, reached, repeating)
