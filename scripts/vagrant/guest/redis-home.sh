#!/usr/bin/env bash
# On a node, every minute: when this machine's own master (6379) has become a replica, since the machine was away, it takes its place
# back, by the failover that loses nothing (CLUSTER FAILOVER: the master stops, the replica catches up, then they change places).
# Otherwise one machine gathers the masters of those that were away, and its loss takes the majority with it.
set -euo pipefail
# shellcheck source=/dev/null
. /etc/ringfs/machine.env
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

info=$(redis "$ADDRESS" 6379 info replication | tr -d '\r') || exit 0
has() {
  grep -qx "$1" <<<"$info"
}
if has role:slave && has master_link_status:up && has master_sync_in_progress:0 && cluster_is_ok; then
  echo "this machine's master takes its place back: $(redis "$ADDRESS" 6379 cluster failover)"
fi
