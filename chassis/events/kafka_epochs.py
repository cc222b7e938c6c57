"""When each life of each topic began, which Kafka itself does not tell.

The topic `stagedoor.epochs` has one partition, keeps everything, and is stamped by its broker. A
record there has the broker's id of a topic's life as its key and the topic's name as its value;
whoever makes a topic, or first asks for the epoch of one made by hand, writes it. The first
record of an id decides, and epochs rise from one id to the next, so that any number of writers
at once, and any clock that steps back, end with the same answer everywhere. Deleting this topic
gives every topic a new, higher epoch: everything is then derived anew from the oldest record.
"""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from chassis.events.kafka_url import Cluster
from chassis.events.log import Topic

NAME = "stagedoor.epochs"
_POLL_S = 0.1


def topic(name: str) -> Topic:
    return Topic(name, partitions=1, retention_s=None)


def decided(entries: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Epochs in microseconds by id, of (id, milliseconds) in the order of the log."""
    epochs: dict[str, int] = {}
    latest = 0
    for life, timestamp_ms in entries:
        if life not in epochs:
            latest = epochs[life] = max(timestamp_ms * 1000, latest + 1)
    return epochs


def read(cluster: Cluster, name: str) -> dict[str, int]:
    """Every epoch there is; blocks, for a thread. `KafkaException` when it cannot be read."""
    settings = cluster.consumer(NAME) | {"enable.partition.eof": True}
    consumer = Consumer(settings)
    try:
        consumer.list_topics(name, timeout=cluster.options.wait_s)  # connects now
        consumer.assign([TopicPartition(name, 0, OFFSET_BEGINNING)])
        return decided(_entries(consumer, round(cluster.options.wait_s / _POLL_S)))
    finally:
        consumer.close()


def _entries(consumer: Consumer, patience: int) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for _ in range(patience):
        for message in consumer.consume(1, _POLL_S) + consumer.consume(1000, 0):
            error = message.error()
            if error is None:
                found.append(((message.key() or b"").decode(), message.timestamp()[1]))
            elif error.code() == KafkaError._PARTITION_EOF:
                return found
            else:
                raise KafkaException(error)
    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no end of the epochs"))
