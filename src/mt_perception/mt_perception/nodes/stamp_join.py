"""Messages of several topics that belong to one image, brought together by its stamp."""

from collections import OrderedDict

from mt_perception.nodes.conversions import stamp_key


class StampJoin:
    """
    Hands out the messages of a stamp once each topic has one.

    Stamps are compared exactly: all topics copy that of the image. What does not become complete is
    forgotten when ``depth`` newer stamps have come, and counted if its first topic, the rare one, was there.

    :param topics: names; the first is the one that is waited with.
    :param depth: stamps remembered.
    :ivar incomplete: stamps of the first topic that were given up.
    """

    def __init__(self, topics, depth=300):
        self.topics = tuple(topics)
        self.incomplete = 0
        self._depth = depth
        self._waiting = OrderedDict()

    def put(self, topic, message):
        """
        Take one message.

        :return: tuple of messages in the order of the topics, or None while some are missing.
        """
        key = stamp_key(message.header.stamp)
        entry = self._waiting.setdefault(key, {})
        entry[topic] = message
        if len(entry) == len(self.topics):
            del self._waiting[key]
            return tuple(entry[name] for name in self.topics)
        while len(self._waiting) > self._depth:
            _, oldest = self._waiting.popitem(last=False)
            self.incomplete += self.topics[0] in oldest
        return None

    def missing(self):
        """Names of topics that the newest stamp of the first topic still lacks."""
        for entry in reversed(self._waiting.values()):
            if self.topics[0] in entry:
                return [name for name in self.topics if name not in entry]
        return []

    def newest(self, topic):
        """Return the newest message of a topic that still waits, or None."""
        return next((e[topic] for e in reversed(self._waiting.values()) if topic in e), None)

    def together(self, *topics, key=None):
        """
        Return the messages of topics that have the same stamp, as a list of None where there are none.

        :param key: that stamp in integer nanoseconds; None = the newest that they all have.
        """
        entries = reversed(self._waiting.values()) if key is None else [self._waiting.get(key, {})]
        for entry in entries:
            if all(topic in entry for topic in topics):
                return [entry[topic] for topic in topics]
        return [None] * len(topics)
