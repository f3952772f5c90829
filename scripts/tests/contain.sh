#!/bin/sh
# Process 1 of the namespaces in which one test file runs: processes, mounts and network of its own (scripts/tests/file.mjs).
# When it ends, the kernel ends everything that the file has left behind, and takes down its mounts.
#
# $@: the command. Its exit code is this one's. What is told goes to descriptor 3: a line `left PID WORDS` for each process
# that would have stayed, and the two lines of times(1p): the second is the CPU time of all that ran in here.

# Anywhere else its last `kill` would end every process of the machine. 4026531836: PROC_PID_INIT_INO of the kernel, the first namespace.
if [ $$ != 1 ] || [ "$(readlink /proc/self/ns/pid)" = 'pid:[4026531836]' ]; then
  echo 'contain.sh runs only as process 1 of a pid namespace of its own: use `npm test`' >&2
  exit 2
fi

GRACE_TENTHS=50

ip link set lo up
# ip-netns(8) names its namespaces here, and a name may be that of another file that runs at the same time.
mkdir -p /run/netns && mount -t tmpfs -o size=64k,mode=755 names /run/netns

# A copy of a mount of ringfs in here would keep it alive when it is unmounted outside. Its path has octal escapes.
awk '$3 == "fuse.ringfs" { print $2 }' /proc/mounts | while read -r path; do
  umount --lazy --no-canonicalize "$(printf %b "$path")"
done

"$@" 3>&-
code=$?

# Without a subshell: that would be one of the others.
others=
find_others() {
  others=
  for folder in /proc/[0-9]*; do
    pid=${folder#/proc/}
    [ "$pid" = 1 ] || others="$others $pid"
  done
}

# What was killed or told to end may still be at it.
waited=0
find_others
while [ -n "$others" ] && [ $waited -lt $GRACE_TENTHS ]; do
  sleep 0.1
  waited=$((waited + 1))
  find_others
done
for pid in $others; do
  words=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) && echo "left $pid $words" >&3
done
# So that their time counts, too.
[ -z "$others" ] || kill -KILL -1
wait
times >&3
exit $code
