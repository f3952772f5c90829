#!/usr/bin/env bash
# A hook of mmdebstrap, for make-box.sh: makes Debian in the folder $1 into a machine that Vagrant can take over.
#   RINGFS_BOX_NODE  a Node whose libraries the box has    RINGFS_BOX_KEY  public key of the user vagrant
set -euo pipefail
root=$1

# Writes a file of the box from standard input.
put() {
  mkdir -p "$(dirname "$root$1")"
  cat >"$root$1"
  chmod "${2:-644}" "$root$1"
}

put /etc/fstab <<'END'
LABEL=ringfs-root / ext4 noatime,errors=remount-ro 0 1
END
# Debian's kernel packages keep these two links at the newest kernel. Where the processor is emulated, each switch of page tables empties
# what was translated, and each character on the console is a trap: a machine for tests needs neither the guards between its own
# processes nor the kernel's chatter (dmesg has it).
put /boot/grub/grub.cfg <<'END'
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
linux /vmlinuz root=LABEL=ringfs-root ro net.ifnames=0 mitigations=off quiet console=tty0 console=ttyS0,115200
initrd /initrd.img
boot
END
# The disks of both providers, not those of every machine: a tenth of the bytes to unpack at each start.
put /etc/initramfs-tools/conf.d/ringfs-box <<'END'
MODULES=list
END
put /etc/initramfs-tools/modules <<'END'
virtio_pci
virtio_blk
virtio_scsi
ata_piix
ahci
sd_mod
ext4
crc32c_generic
crc32c_intel
END
chroot "$root" update-initramfs -u -k all >/dev/null
put /etc/hostname <<<'ringfs-box'
put /etc/hosts <<'END'
127.0.0.1 localhost
127.0.1.1 ringfs-box
END
put /etc/network/interfaces <<'END'
source-directory /etc/network/interfaces.d

auto lo
iface lo inet loopback

allow-hotplug eth0
iface eth0 inet dhcp
END
put /etc/modules-load.d/ringfs.conf <<<'fuse'
# Redis asks for it: else a snapshot fails as soon as half of the memory is used.
put /etc/sysctl.d/60-redis.conf <<<'vm.overcommit_memory = 1'

# The user that Vagrant logs in as.
chroot "$root" useradd --create-home --shell /bin/bash vagrant
put /etc/sudoers.d/vagrant 440 <<<'vagrant ALL=(ALL) NOPASSWD: ALL'
put /home/vagrant/.ssh/authorized_keys 600 <"$RINGFS_BOX_KEY"
chmod 700 "$root/home/vagrant/.ssh"
chroot "$root" chown -R vagrant:vagrant /home/vagrant/.ssh
put /etc/ssh/sshd_config.d/ringfs-box.conf <<'END'
UseDNS no
PasswordAuthentication no
END

# Every machine has host keys and an id of its own, made at its first start.
rm -f "$root"/etc/ssh/ssh_host_*
: >"$root/etc/machine-id"
put /etc/systemd/system/ssh-host-key.service <<'END'
[Unit]
Description=Host key of this machine
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
Before=ssh.service
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
[Install]
WantedBy=multi-user.target
END
chroot "$root" systemctl --quiet enable ssh-host-key.service
# ringfs has Redis servers of its own; the rest is for machines that live long.
chroot "$root" systemctl --quiet disable redis-server.service
chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer logrotate.timer \
  e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-pstore.service

install -m 755 "$RINGFS_BOX_NODE" "$root/usr/local/bin/node"
chroot "$root" /usr/local/bin/node --version || {
  echo "make-box: $RINGFS_BOX_NODE does not run in the box: a Node is needed that uses no more than libc and libstdc++" >&2
  exit 1
}
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/usr/share/{doc,man,locale,info}/*
