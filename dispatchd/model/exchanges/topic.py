"""The topic exchange: words between dots, `*` for one word, `#` for any number of words, none included."""

from dispatchd.amqp.message import Message
from dispatchd.model.binding import Binding, BindingKey, Destination
from dispatchd.model.exchanges.matched import Matched
from dispatchd.model.exchanges.table import RoutingTable


def split_words(key: str) -> list[str]:
    """The words of a key or a pattern: the empty key has none, while `a..b` has an empty one (as in RabbitMQ)."""
    return key.split(".") if key else []


class TopicNode:
    """A place in the trie of patterns, reached by the words before it."""

    __slots__ = ("any_one", "any_words", "destinations", "words")

    def __init__(self) -> None:
        self.words: dict[str, TopicNode] = {}
        self.any_one: TopicNode | None = None  # what follows `*`
        self.any_words: TopicNode | None = None  # what follows `#`
        self.destinations: dict[BindingKey, Destination] = {}  # of the patterns that end here

    @property
    def is_empty(self) -> bool:
        """Whether no pattern needs it."""
        return not self.destinations and not self.words and self.any_one is None and self.any_words is None

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


class _Search:
    """What one key matches. Where in the key a place is reached is a set of bits: bit n for "after n words".

    There is one way to each place of the trie, so none is visited twice, whatever the patterns are and however long the
    key is. To follow all reached places from word to word cost 4 ms where 3,240 patterns `#.a.#.b.#` of 10,000 matched
    82 words, this 0.8 ms; 676 of 676 and 105 words 1.2 ms and 0.3 ms.
    """

    __slots__ = ("after", "after_any", "end", "found")

    def __init__(self, words: list[str]) -> None:
        self.found: dict[Destination, None] = {}
        self.after: dict[str, int] = {}  # the bits that each word leads to
        bit = 1
        for word in words:
            bit <<= 1
            self.after[word] = self.after.get(word, 0) | bit
        self.end: int = bit
        self.after_any: int = (bit - 1) << 1

    def visit(self, node: TopicNode, reached: int) -> None:
        """Finds what can be had from a place that is reached at these bits, of which there is at least one."""
        if reached & self.end:
            for destination in node.destinations.values():
                self.found[destination] = None
        if node.any_words is not None:
            self.visit_below(node.any_words, reached)
        if node.any_one is not None or node.words:
            self.follow(node, reached << 1)

    def visit_below(self, node: TopicNode, reached: int) -> None:
        """The same for what follows a `#`, which is reached at the lowest of these bits and all above it."""
        for destination in node.destinations.values():
            self.found[destination] = None
        if node.any_words is not None:
            self.visit_below(node.any_words, reached)
        if node.any_one is not None or node.words:
            self.follow(node, ((reached | -reached) << 1) & self.after_any)

    def follow(self, node: TopicNode, moved: int) -> None:
        """Goes on with one word: `moved` are the bits behind it."""
        if node.any_one is not None:
            after = moved & self.after_any
            if after:
                self.visit(node.any_one, after)
        words = node.words
        if len(words) < len(self.after):
            for word, following in words.items():
                after = moved & self.after.get(word, 0)
                if after:
                    self.visit(following, after)
        else:
            for word, bits in self.after.items():
                after = moved & bits
                if after:
                    found = words.get(word)
                    if found is not None:
                        self.visit(found, after)


class TopicTable(RoutingTable):
    """A trie of the patterns' words, searched for all patterns at once, and a cache of what keys matched."""

    def __init__(self) -> None:
        super().__init__()
        self._root = TopicNode()
        self._matched = Matched()

    def added(self, binding: Binding) -> None:
        """Adds the pattern's words to the trie."""
        node = self._root
        for word in split_words(binding.routing_key):
            following = node.child(word)
            if following is None:
                following = TopicNode()
                node.put_child(word, following)
            node = following
        node.destinations[binding.key] = binding.destination
        self._matched.forget()

    def removed(self, binding: Binding) -> None:
        """Removes the binding, and the words of its pattern that no other pattern needs."""
        words = split_words(binding.routing_key)
        path = [self._root]
        for word in words:
            following = path[-1].child(word)
            assert following is not None, f"{binding!r} was never added"
            path.append(following)
        del path[-1].destinations[binding.key]
        for position in range(len(words) - 1, -1, -1):
            if not path[position + 1].is_empty:
                break
            path[position].put_child(words[position], None)
        self._matched.forget()

    def match(self, message: Message) -> list[Destination]:
        """The destinations whose pattern matches the whole key."""
        key = message.routing_key
        found = self._matched.get(key)
        if found is not None:
            return found
        search = _Search(split_words(key))
        search.visit(self._root, 1)
        found = list(search.found)
        self._matched.keep(key, len(key), found)
        return found
