"""Quality-of-service profiles, and a sentence for the case that two of them do not fit."""

from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

RELIABILITY = {'best_effort': ReliabilityPolicy.BEST_EFFORT, 'reliable': ReliabilityPolicy.RELIABLE}


def input_qos(reliability, depth):
    """Return the profile of a subscription to a sensor (REP-2003: best effort hears everybody)."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=RELIABILITY[reliability])


def output_qos(depth=5):
    """Return the profile of results: reliable, which both kinds of subscription hear."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=ReliabilityPolicy.RELIABLE)


def latched_qos(depth=1):
    """Return the profile of what late subscribers must still get (label tables, ground truth, static TF)."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


def subscription_events(report, topic):
    """
    Return callbacks that put an incompatible publisher into words.

    :param report: called with the sentence.
    :param topic: resolved topic name.
    """

    def incompatible(event):
        policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
        report(
            f"a publisher on {topic} offers a {policy} this node's subscription does not accept, so nothing "
            f'arrives from it: change the {policy} QoS of the publisher or of this node'
        )

    return SubscriptionEventCallbacks(incompatible_qos=incompatible)


def publisher_events(report, topic):
    """Return callbacks that put an incompatible subscriber into words."""

    def incompatible(event):
        policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
        report(
            f'a subscriber on {topic} asks for a {policy} this node does not offer, so it hears nothing: '
            f"change the subscriber's {policy} QoS"
        )

    return PublisherEventCallbacks(incompatible_qos=incompatible)
