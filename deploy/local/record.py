"""What `up` decided for a cluster and must keep: its random id, addresses, ports, and whether it has a real node.

Read and written whole.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from deploy.local.addresses import Network, free_network, free_ports, is_free
from deploy.local.errors import ClusterError
from deploy.local.layout import Layout
from deploy.local.processes import write_whole


@dataclass(frozen=True)
class Record:
    """`marker` is also in the cluster itself (ConfigMap kube-system/tandem-local): the two together prove that a
    cluster is ours.
    """

    marker: str
    network_second: int
    ports: Mapping[str, int]
    has_real_node: bool

    @property
    def network(self) -> Network:
        """The cluster's addresses."""
        return Network(self.network_second)

    @property
    def server_address(self) -> str:
        """Where the API server listens: the node when there is one, else the loopback."""
        return self.network.node if self.has_real_node else "127.0.0.1"

    @property
    def server(self) -> str:
        """The API server's address for clients."""
        return f"https://{self.server_address}:{self.ports['apiserver']}"


def read_record(layout: Layout) -> Record | None:
    """The record, or None when there is none. Raises ClusterError when it cannot be read."""
    try:
        return Record(**json.loads(layout.record.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ClusterError(f"{layout.record} cannot be read ({error}); `down` removes it with its cluster") from error


def new_record(layout: Layout, *, has_real_node: bool) -> Record:
    """Decide and write down a new cluster.

    Raises ClusterError when the state folder holds something that is not ours.
    """
    _refuse_foreign(layout.state)
    layout.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    record = Record(secrets.token_hex(16), free_network().second, free_ports(), has_real_node)
    write_record(layout, record)
    return record


def write_record(layout: Layout, record: Record) -> None:
    """Write the record, whole or not at all."""
    write_whole(layout.record, json.dumps(asdict(record), indent=1))


def with_free_ports(record: Record) -> Record:
    """The same record; ports that another program took meanwhile are chosen anew."""
    kept = [port for port in record.ports.values() if is_free(port)]
    if len(kept) == len(record.ports):
        return record
    fresh = free_ports([name for name, port in record.ports.items() if port not in kept])
    return replace(record, ports={**record.ports, **fresh})


def _refuse_foreign(state: Path) -> None:
    if state.is_dir() and (found := sorted(entry.name for entry in state.iterdir())):
        raise ClusterError(
            f"{state} holds {', '.join(found[:3])} but no cluster.json: it was not made by this program; "
            "choose another folder with TANDEM_STATE"
        )
