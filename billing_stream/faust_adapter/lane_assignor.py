"""Faust's assignor; all partitions that one lane reads go to one worker.

Faust groups topics by their number of partitions and assigns each group by itself: when partitions
are added to a topic, its partition 3 can come to another worker than the rows of lane 3. Here every
topic counts as having as many partitions as there are lanes, and each partition beyond these goes
to the worker of the lane that reads it.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any, ClassVar

import msgspec
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor

from billing_stream.engine.input_names import lane_of


class _Capped:
    """The cluster without the partitions that are beyond `lanes`."""

    def __init__(self, cluster: ClusterMetadata, lanes: int) -> None:
        self._cluster = cluster
        self._lanes = lanes

    def partitions_for_topic(self, topic: str) -> set[int]:
        """Those of lanes."""
        found = self._cluster.partitions_for_topic(topic) or set()
        return {partition for partition in found if partition < self._lanes}


class LaneAssignor(PartitionAssignor):
    """See above. `lanes` is their number; `settings` are in the description of the group."""

    lanes: ClassVar[int]
    settings: ClassVar[Mapping[str, str]]

    def metadata(self, topics: set[str]) -> ConsumerProtocolMemberMetadata:
        """What this member reports to the group; Faust reads no fields that it does not know."""
        found = super().metadata(topics)
        given = {**msgspec.json.decode(found.user_data), "settings": self.settings}
        return ConsumerProtocolMemberMetadata(
            found.version, found.subscription, msgspec.json.encode(given)
        )

    def assign(self, cluster: ClusterMetadata, member_metadata: Any) -> Any:
        """The partitions of each member; called in the member that leads the group."""
        self._added = {
            topic: [p for p in cluster.partitions_for_topic(topic) or () if p >= self.lanes]
            for member in member_metadata.values()
            for topic in member.subscription
            # Only lanes write changelogs, each in its own partition.
            if topic not in self.app.tables.changelog_topics
        }
        return super().assign(cluster, member_metadata)

    @classmethod
    def _get_copartitioned_groups(cls, topics: Any, cluster: Any, subscriptions: Any) -> Any:
        capped: Any = _Capped(cluster, cls.lanes)
        return super()._get_copartitioned_groups(topics, capped, subscriptions)

    @classmethod
    def _get_client_metadata(cls, metadata: Any) -> ClientMetadata:
        found = super()._get_client_metadata(metadata)
        # Faust takes the partitions of any topic for those of all.
        actives = found.assignment.actives
        for topic, partitions in actives.items():
            actives[topic] = [partition for partition in partitions if partition < cls.lanes]
        return found

    def _protocol_assignments(
        self, assignments: MutableMapping[str, ClientAssignment], *distributions: Any
    ) -> Any:
        for assignment in assignments.values():
            for topic, own in assignment.actives.items():
                added = self._added.get(topic, ())
                mine = [p for p in added if lane_of(p, self.lanes) in own]
                assignment.actives[topic] = [*own, *mine]
        return super()._protocol_assignments(assignments, *distributions)


def new_assignor(lanes: int, settings: Mapping[str, str]) -> type[PartitionAssignor]:
    """The `PartitionAssignor` setting of an app with `lanes` lanes."""

    class BoundAssignor(LaneAssignor):
        pass

    BoundAssignor.lanes = lanes
    BoundAssignor.settings = settings
    return BoundAssignor
