#!/usr/bin/env bash
# On a machine that has ringfs (install.sh) and the secrets (secrets.sh), as root: starts what belongs on it, now and at each boot.
# May be repeated; what has not changed is not restarted.
#
# A node: three Redis servers, its own master on 6379 and, on the other ports, replicas of the masters of the other two: any machine can
# be lost, and each master that is left has a replica for which an fsync can wait. And ringfs-node.service. With fewer machines than
# three there are three masters all the same, as Redis wants it, and fewer replicas: to look at, not to lose anything.
# A client: a mount on /mnt/ringfs.
set -euo pipefail
umask 022
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=/dev/null
. /etc/ringfs/machine.env
# shellcheck source=lib.sh
. "$here/lib.sh"
if [ ! -s /etc/ringfs/ring.key ] || [ ! -s $PASSWORD_FILE ]; then die 'the secrets are not here yet: secrets.sh'; fi

changed=false

# Writes file $1 from standard input, of owner $2 and mode $3, and notes whether that changed it.
put() {
  mkdir -p "$(dirname "$1")"
  install -o "$2" -g "$2" -m "$3" /dev/stdin "$1.new"
  if cmp -s "$1.new" "$1"; then
    rm "$1.new"
  else
    mv "$1.new" "$1"
    changed=true
  fi
}

put_redis() {
  local port=$1
  install -d -o redis -g redis -m 750 "/var/lib/redis/$port"
  put "/etc/redis/redis-$port.conf" redis 640 <<END
# Written by ringfs, start.sh.
bind $ADDRESS 127.0.0.1
port $port
cluster-enabled yes
cluster-announce-ip $ADDRESS
cluster-node-timeout $NODE_TIMEOUT_MS
# Each machine keeps one server of each master's.
cluster-allow-replica-migration no
requirepass $(cat $PASSWORD_FILE)
masterauth $(cat $PASSWORD_FILE)
dir /var/lib/redis/$port
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
pidfile /run/redis-$port/redis-server.pid
logfile /var/log/redis/redis-server-$port.log
END
}

start_redis() {
  local port
  # The address may come up after Redis.
  put /etc/systemd/system/redis-server@.service.d/ringfs.conf root 644 <<'END'
[Unit]
StartLimitIntervalSec=0
[Service]
RestartSec=2
END
  [ $changed = false ] || systemctl daemon-reload
  for port in $REDIS_PORTS; do
    changed=false
    put_redis "$port"
    systemctl --quiet enable "redis-server@$port"
    if [ $changed = true ]; then systemctl restart "redis-server@$port"; else systemctl start "redis-server@$port"; fi
  done
}

all_redis() {
  local address port
  for address in $NODES; do
    for port in $REDIS_PORTS; do echo "$address:$port"; done
  done
}

all_answer() {
  local one
  for one in $(all_redis); do
    [ "$(redis "${one%:*}" "${one#*:}" ping)" = PONG ] || return 1
  done
}

# The machine that comes up last makes the cluster. redis-cli takes the masters from the machines in turn, and puts no
# replica beside its master.
make_cluster() {
  local machines
  machines=$(wc -w <<<"$NODES")
  wait_for 600 'the Redis servers of all nodes' all_answer
  if [ "$(cluster_field cluster_known_nodes)" = 1 ]; then
    # shellcheck disable=SC2046 # a list
    REDIS_TIMEOUT_S=300 redis "$ADDRESS" 6379 --cluster create $(all_redis) --cluster-replicas $((machines - 1)) --cluster-yes >/var/log/redis/cluster-create.log ||
      die 'the Redis Cluster could not be made: /var/log/redis/cluster-create.log'
  fi
  wait_for 300 'the Redis Cluster' cluster_is_ok
}

# Its name may be there from an earlier run (exit code 21).
make_volume() {
  local status=0 said machines meta_replicas=0
  machines=$(wc -w <<<"$NODES")
  # Of two replicas one may be away.
  if [ "$machines" = 3 ]; then meta_replicas=1; fi
  said=$(ringfs format "$(meta_url)" --replicas "$machines" --meta-replicas $meta_replicas --partitions $PARTITIONS 2>&1) || status=$?
  case $status in 0 | 21) ;; *) die "the volume could not be made: $said" ;; esac
}

start_node() {
  changed=false
  put /etc/ringfs/node.env ringfs 600 <<END
RINGFS_META=$(meta_url)
RINGFS_KEY_FILE=/etc/ringfs/ring.key
RINGFS_DATA=/var/lib/ringfs
RINGFS_LISTEN=$ADDRESS:7400
RINGFS_ADVERTISE=$ADDRESS:7400
END
  # A shell that waits is cheaper than a node that is started again and again.
  put /etc/systemd/system/ringfs-node.service.d/redis.conf root 644 <<END
[Service]
ExecStartPre=$here/wait-redis.sh
RestartSec=10
TimeoutStartSec=infinity
END
  put /etc/systemd/system/ringfs-redis-home.service root 644 <<END
[Unit]
Description=Redis masters back to their machines
[Service]
Type=oneshot
ExecStart=$here/redis-home.sh
END
  put /etc/systemd/system/ringfs-redis-home.timer root 644 <<'END'
[Unit]
Description=Redis masters back to their machines
[Timer]
OnBootSec=60
OnUnitInactiveSec=60
[Install]
WantedBy=timers.target
END
  if is_new_tree; then ringfs systemd node >/dev/null; fi
  note_tree
  systemctl daemon-reload
  systemctl --quiet enable ringfs-node.service ringfs-redis-home.timer ringfs-rebuild.timer
  systemctl start ringfs-redis-home.timer ringfs-rebuild.timer
  # Not waited for: Redis may lack its other machines still.
  if [ $changed = true ]; then systemctl restart --no-block ringfs-node; else systemctl start --no-block ringfs-node; fi
}

start_client() {
  changed=false
  mkdir -p /mnt/ringfs
  if is_new_tree; then
    ringfs install-mount-helper >/dev/null
    ringfs systemd mount "$(meta_url)" /mnt/ringfs -o key-file=/etc/ringfs/ring.key >/dev/null
  fi
  # An emulated machine that has little of its host starts two programs in that time.
  put /etc/systemd/system/mnt-ringfs.mount.d/slow.conf root 644 <<'END'
[Mount]
TimeoutSec=900
END
  note_tree
  systemctl daemon-reload
  systemctl --quiet enable mnt-ringfs.mount
  if [ $changed = true ]; then systemctl restart mnt-ringfs.mount; else systemctl start mnt-ringfs.mount; fi
}

# The units name the program, and are written by it. Each of its commands takes a while on an emulated machine.
is_new_tree() {
  ! cmp -s /etc/ringfs/started /opt/ringfs/.packed
}

# Another program than the one that runs is a change.
note_tree() {
  put /etc/ringfs/started root 644 </opt/ringfs/.packed
}

node_is_up() {
  systemctl --quiet is-active ringfs-node && ss -Htln "src $ADDRESS:7400" | grep -q .
}

if [ "$ROLE" = node ]; then
  start_redis
  last=${NODES##* }
  if [ "$ADDRESS" = "$last" ]; then
    make_cluster
    make_volume
  fi
  start_node
  if [ "$ADDRESS" = "$last" ]; then wait_for 300 'the chunk node' node_is_up; fi
else
  wait_for 300 'the Redis Cluster' cluster_is_ok
  start_client
fi
echo "ringfs: $ROLE at $ADDRESS is started"
