#!/usr/bin/env bash
# Makes a base box for Vagrant out of this machine's own Debian: the same release, from the package sources that apt has here, with the
# Node that runs here. Nothing else is downloaded. Root: mmdebstrap chroots, and the files of the image belong to root.
#
#   scripts/vagrant/make-box.sh [--provider libvirt|virtualbox|all] [--out DIR] [--work DIR] [--add]
#
# No loop device, mount or running kernel is needed: mke2fs fills the file system, and GRUB's two parts are put where BIOS looks for
# them: boot.img in the first sector reads the second one, which is the first of core.img; that reads the rest behind itself, up to
# the partition at 1 MiB. These are the values with which GRUB is built, so that nothing has to be patched.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
name=ringfs/debian
provider=libvirt
out=$here/../../build/vagrant
work=${TMPDIR:-/tmp}
add=false
# Sparse: what is not used takes no space.
disk_mib=8192
partition_at=$((1024 * 1024))

die() {
  echo "make-box: $*" >&2
  exit 1
}

while [ $# -gt 0 ]; do
  case $1 in
    --provider | --out | --work)
      [ $# -ge 2 ] || die "$1 needs a value"
      declare "${1#--}=$2"
      shift 2
      ;;
    --add)
      add=true
      shift
      ;;
    --help)
      sed -n '2,9s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    *) die "unknown word: $1 (--help shows all)" ;;
  esac
done
case $provider in
  libvirt | virtualbox) providers=$provider ;;
  all) providers='libvirt virtualbox' ;;
  *) die "unknown provider: $provider (libvirt, virtualbox or all)" ;;
esac

check_prerequisites() {
  local missing='' program
  for program in mmdebstrap qemu-img mke2fs sfdisk vagrant node; do
    command -v "$program" >/dev/null || missing="$missing $program"
  done
  [ -z "$missing" ] || die "missing:$missing; apt-get install mmdebstrap qemu-utils e2fsprogs fdisk vagrant, and Node 20.19 or newer"
  [ "$(id -u)" = 0 ] || die 'run it as root: the files of the box belong to root'
}

# The lines of a sources.list, from what apt reads here: Debian's own only.
debian_sources() {
  # shellcheck disable=SC2016 # apt's own variables
  apt-get indextargets --format 'deb $(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' | sort -u
}

# The public half of the key that every Vagrant knows, and replaces at the first `vagrant up`.
insecure_key() {
  local key
  # All is read to its end: a pipe that breaks is a failure here.
  key=$({ dpkg -L vagrant || true; } 2>/dev/null | awk '/keys\/vagrant\.pub$/ { file = $0 } END { print file }')
  [ -n "$key" ] || die 'no keys/vagrant.pub in the package vagrant'
  echo "$key"
}

make_root() {
  local codename sources packages key
  key=$(insecure_key)
  # shellcheck source=/dev/null
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  sources=$(debian_sources)
  [ -n "$sources" ] || die 'apt has no Debian sources here, or apt-get update was never run'
  # Comments and line breaks are for readers of the list.
  packages=$(sed 's/#.*//' "$here/box/packages" | tr -s ' \n' ',' | sed 's/^,//; s/,$//')
  RINGFS_BOX_NODE=$(node -p process.execPath) RINGFS_BOX_KEY=$key \
    mmdebstrap --quiet --variant=minbase --include="$packages" --customize-hook="$here/box/customize.sh" \
    "$codename" "$root" - <<<"$sources"
}

make_disk() {
  local core=$work/core.img
  chroot "$root" grub-mkimage -O i386-pc -p '(,msdos1)/boot/grub' -o /core.img biosdisk part_msdos ext2 normal linux configfile serial terminal
  mv "$root/core.img" "$core"
  [ "$(stat -c %s "$core")" -lt $((partition_at - 512)) ] || die 'core.img of GRUB does not fit in front of the partition'
  truncate -s "${disk_mib}M" "$disk"
  echo "start=$((partition_at / 512)), type=83, bootable" | sfdisk --quiet --label dos "$disk"
  mke2fs -q -F -t ext4 -L ringfs-root -E "offset=$partition_at" -d "$root" "$disk" "$(((disk_mib - 1) * 1024))k"
  # The rest of the sector is the partition table.
  dd if="$root/usr/lib/grub/i386-pc/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
  dd if="$core" of="$disk" bs=512 seek=1 conv=notrunc status=none
}

pack_libvirt() {
  local folder=$work/libvirt
  mkdir "$folder"
  qemu-img convert -c -O qcow2 "$disk" "$folder/box.img"
  echo "{\"provider\": \"libvirt\", \"format\": \"qcow2\", \"virtual_size\": $((disk_mib / 1024))}" >"$folder/metadata.json"
  echo 'Vagrant.configure("2") { |config| config.vm.provider(:libvirt) { |v| v.driver = "kvm" } }' >"$folder/Vagrantfile"
  tar -C "$folder" -czf "$1" metadata.json Vagrantfile box.img
}

pack_virtualbox() {
  local folder=$work/virtualbox
  mkdir "$folder"
  qemu-img convert -O vmdk -o subformat=streamOptimized "$disk" "$folder/disk.vmdk"
  sed -e "s/@CAPACITY@/$((disk_mib * 1024 * 1024))/" -e "s/@SIZE@/$(stat -c %s "$folder/disk.vmdk")/" \
    "$here/box/box.ovf" >"$folder/box.ovf"
  echo '{"provider": "virtualbox"}' >"$folder/metadata.json"
  echo 'Vagrant.configure("2") { |config| config.vm.base_mac = "080027A1B2C3" }' >"$folder/Vagrantfile"
  tar -C "$folder" -czf "$1" metadata.json Vagrantfile box.ovf disk.vmdk
}

check_prerequisites
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d "$work/ringfs-box-XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
disk=$work/disk.raw

echo 'make-box: packages'
make_root
echo 'make-box: disk'
make_disk
rm -rf "$root"
for one in $providers; do
  echo "make-box: box for $one"
  # Whole or not there.
  "pack_$one" "$work/$one.box"
  mv "$work/$one.box" "$out/$one.box"
  if [ "$add" = true ]; then vagrant box add --force --name "$name" --provider "$one" "$out/$one.box"; fi
  echo "make-box: $out/$one.box"
done
[ "$add" = true ] || echo "make-box: vagrant box add --force --name $name --provider $one $out/$one.box"
