#!/usr/bin/env bash
# On a machine, as root: puts ringfs in place out of the packed tree, and notes what this machine is. Starts nothing: the secrets
# come later (secrets.sh), then start.sh. May be repeated.
#
#   install.sh NAME node|client ADDRESS NODE-ADDRESS,NODE-ADDRESS,… [TREE]
set -euo pipefail

die() {
  echo "ringfs: $*" >&2
  exit 1
}

[ $# -ge 4 ] || die 'usage: install.sh NAME node|client ADDRESS NODE-ADDRESS,… [TREE]'
name=$1 role=$2 address=$3 nodes=$4 tree=${5:-/tmp/ringfs-tree.tar.gz}
[[ $name =~ ^[a-z][a-z0-9-]*$ ]] || die "'$name' is not the name of a machine"
case $role in node | client) ;; *) die "a machine is a node or a client, not '$role'" ;; esac
for one in "$address" ${nodes//,/ }; do
  [[ $one =~ ^[0-9]+(\.[0-9]+){3}$ ]] || die "'$one' is not an IPv4 address"
done
[ "$role" = client ] || [[ ,$nodes, == *,$address,* ]] || die "$address is not one of the nodes $nodes"
[ -s "$tree" ] || die "$tree is not there: pack.mjs makes it"

for program in node redis-server redis-cli fusermount3; do
  command -v "$program" >/dev/null || die "this box has no $program: scripts/vagrant/make-box.sh makes one that has"
done
node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' ||
  die "Node 20.19 or newer is needed; this box has $(node --version)"

# Vagrant's own way is two dozen calls by ssh, minutes on an emulated machine, and leaves a unit failed.
if [ "$(cat /etc/hostname)" != "$name" ]; then
  hostname "$name"
  sed -i -e '/^127\.0\.1\.1[[:space:]]/d' /etc/hosts
  echo "127.0.1.1 $name" >>/etc/hosts
  echo "$name" >/etc/hostname
fi

hash=$(sha256sum "$tree" | cut -d ' ' -f 1)
if [ "$(cat /opt/ringfs/.packed 2>/dev/null)" != "$hash" ]; then
  rm -rf /opt/ringfs.new
  mkdir -p /opt/ringfs.new
  tar -C /opt/ringfs.new --no-same-owner -xzf "$tree"
  echo "$hash" >/opt/ringfs.new/.packed
  rm -rf /opt/ringfs.old
  [ ! -d /opt/ringfs ] || mv /opt/ringfs /opt/ringfs.old
  mv /opt/ringfs.new /opt/ringfs
  rm -rf /opt/ringfs.old
fi
rm -f "$tree"

cat >/usr/local/bin/ringfs.new <<'END'
#!/bin/sh
exec node /opt/ringfs/dist/src/main/ringfs.js "$@"
END
chmod 755 /usr/local/bin/ringfs.new
mv /usr/local/bin/ringfs.new /usr/local/bin/ringfs

id ringfs >/dev/null 2>&1 || useradd --system --home-dir /var/lib/ringfs --shell /usr/sbin/nologin ringfs
mkdir -p /etc/ringfs
printf 'ROLE=%s\nADDRESS=%s\nNODES="%s"\n' "$role" "$address" "${nodes//,/ }" >/etc/ringfs/machine.env
echo "ringfs is in place (${hash:0:12}): a $role at $address"
