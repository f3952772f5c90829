#!/usr/bin/env bash
# What follows the start of a machine, run here by a trigger of the Vagrantfile: gives machine $2 the secrets that machine $1 has made (the
# same: makes them), and starts what belongs on it. May be repeated.
#
# The secrets pass through a pipe between two ssh connections: never on this machine's disk, in arguments, or in Vagrant's log.
set -euo pipefail
[ $# = 2 ] || {
  echo "usage: $0 FIRST MACHINE" >&2
  exit 2
}
first=$1 machine=$2
cd "$(dirname "$0")/../.."
guest=/opt/ringfs/scripts/vagrant/guest

# One connection to each for all calls: on an emulated machine each takes seconds to make. It ends by itself.
folder=$(mktemp -d)
config=$folder/config
trap 'rm -rf "$folder"' EXIT
# One after the other: vagrant fails for a name that is given twice.
vagrant ssh-config "$first" >"$config"
[ "$machine" = "$first" ] || vagrant ssh-config "$machine" >>"$config"

on() {
  local name=$1
  shift
  ssh -F "$config" -o ControlMaster=auto -o "ControlPath=$folder/%n" -o ControlPersist=5 -o ConnectTimeout=60 -o ServerAliveInterval=30 -o ServerAliveCountMax=10 "$name" sudo "$@"
}

if ! on "$machine" test -x $guest/start.sh </dev/null; then
  echo "$machine has no ringfs yet: vagrant provision $machine"
  exit
fi
if [ "$machine" = "$first" ]; then
  on "$first" $guest/secrets.sh make </dev/null
else
  on "$first" $guest/secrets.sh give </dev/null | on "$machine" $guest/secrets.sh take
fi
on "$machine" $guest/start.sh </dev/null
