#!/usr/bin/env bash
# Before a node starts: waits, without end, for the Redis Cluster. Runs as the user of the service.
set -euo pipefail
# shellcheck source=/dev/null
. /etc/ringfs/machine.env
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
until cluster_is_ok; do sleep 2; done
