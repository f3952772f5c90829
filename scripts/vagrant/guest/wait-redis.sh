#!/usr/bin/env bash
# Before a node starts: waits, without end, for the Redis Cluster. Runs as the user of the service.
set -euo pipefail
# shellcheck source=/dev/null
. /etc/ringfs/machine.env
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
# Each look is a dozen processes, which an emulated machine feels.
until cluster_is_ok; do sleep 10; done
