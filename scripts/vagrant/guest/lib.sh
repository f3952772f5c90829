# Sourced by the scripts beside it, after /etc/ringfs/machine.env.
# shellcheck shell=bash disable=SC2034,SC2153 # settings are for those who source it
PASSWORD_FILE=/etc/ringfs/redis.pw
REDIS_PORTS='6379 6380 6381'
# Emulated machines stand still for seconds when their host is busy.
NODE_TIMEOUT_MS=15000
PARTITIONS=32
VOLUME=home

die() {
  echo "ringfs: $*" >&2
  exit 1
}

# redis HOST PORT WORD…; the password is in the environment, not among the arguments. A machine that is off does not answer at all.
redis() {
  local host=$1 port=$2
  shift 2
  REDISCLI_AUTH=$(cat $PASSWORD_FILE) timeout "${REDIS_TIMEOUT_S:-15}" redis-cli -h "$host" -p "$port" "$@" 2>/dev/null
}

# wait_for SECONDS WHAT COMMAND…
wait_for() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $end ] || die "$what: not there in time"
    sleep 5
  done
}

# Of CLUSTER INFO, as the first node that answers knows it.
cluster_field() {
  local address value
  for address in $NODES; do
    value=$(redis "$address" 6379 cluster info | tr -d '\r' | sed -n "s/^$1://p") || true
    [ -z "$value" ] || break
  done
  echo "$value"
}

cluster_is_ok() {
  [ "$(cluster_field cluster_state)" = ok ]
}

meta_url() {
  local hosts='' address
  for address in $NODES; do hosts=$hosts,$address:6379; done
  echo "redis://${hosts#,}/$VOLUME?password-file=$PASSWORD_FILE"
}
