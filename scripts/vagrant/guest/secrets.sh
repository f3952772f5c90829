#!/usr/bin/env bash
# On a machine, as root: the cluster key and the password of Redis.
#
#   secrets.sh make      makes what is missing (the first machine)
#   secrets.sh give      as a tar on standard output
#   secrets.sh take      from standard input
set -euo pipefail
umask 077
folder=/etc/ringfs
files=(ring.key redis.pw)

# A node's files belong to the user of its service, a client's to root.
# shellcheck source=/dev/null
. $folder/machine.env
owner=root
[ "$ROLE" = client ] || owner=ringfs

make() {
  [ -e $folder/ring.key ] || ringfs key new $folder/ring.key
  if [ ! -e $folder/redis.pw ]; then
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >$folder/redis.pw.new
    mv $folder/redis.pw.new $folder/redis.pw
  fi
}

# Whole or not at all.
take() {
  local new=$folder/new file
  rm -rf $new
  mkdir $new
  tar -C $new --no-same-owner -xf -
  for file in "${files[@]}"; do
    [ -s "$new/$file" ] || {
      echo "ringfs: no $file was given" >&2
      exit 1
    }
  done
  for file in "${files[@]}"; do
    chown $owner "$new/$file"
    mv "$new/$file" "$folder/$file"
  done
  rm -rf $new
}

case ${1:-} in
  make) make && (cd $folder && chown $owner "${files[@]}") ;;
  give) tar -C $folder -cf - "${files[@]}" ;;
  take) take ;;
  *)
    echo 'usage: secrets.sh make|give|take' >&2
    exit 2
    ;;
esac
