/**
 * Units for systemd: a chunk node as a service, and a mount. They name this very program and its Node by their paths, so
 * that they are made anew when either moves.
 */
import { renameSync, writeFileSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { ERROR_CODES, RingfsError, messageOf } from '../base/errors.js'
import { makeFolders } from '../base/make-folders.js'
import { INCOMPLETE } from '../check/rebuild/words.js'
import { PROGRAM } from './detach.js'

const FOLDER = 'etc/systemd/system'

export interface Unit {
  readonly name: string
  readonly text: string
}

/**
 * What may be hardened without breaking it: V8 writes code into memory, so that MemoryDenyWriteExecute is not there, and asks for
 * protection keys at its start (pkey_alloc(2), which @system-service lacks); the program may lie in a home, which is read.
 * `disks`: further data folders, made already; one that is not mounted at a start stays read-only, and the node does without.
 * Errors: RingfsError USAGE.
 */
export function nodeUnit(user: string, disks: readonly string[] = []): Unit {
  const relative = disks.find((disk) => !isAbsolute(disk))
  if (relative !== undefined) throw new RingfsError('USAGE', `${relative}: a unit needs an absolute path`)
  const more = disks.map((disk) => ` --data ${quote(disk)}`).join('')
  const writable = disks.map((disk) => `ReadWritePaths=-${quote(disk)}\n`).join('')
  const text = `# Written by ringfs systemd node. What is different on each machine is in /etc/ringfs/node.env.
[Unit]
Description=ringfs chunk node
Wants=network-online.target
After=network-online.target
# Redis may be away for long: it is tried again and again.
StartLimitIntervalSec=0

[Service]
Type=exec
User=${user}
EnvironmentFile=/etc/ringfs/node.env
ExecStart=${quote(process.execPath)} ${quote(PROGRAM)} node --data \${RINGFS_DATA}${more} --listen \${RINGFS_LISTEN} --advertise \${RINGFS_ADVERTISE}
Restart=always
RestartSec=2
# It says goodbye and answers what it was asked; then it is ended.
TimeoutStopSec=30
LimitNOFILE=65536
# So far it may lower its nice value (--nice), which is not done for it here: its threads differ.
LimitNICE=-10
StateDirectory=ringfs
StateDirectoryMode=0700
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
LockPersonality=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=read-only
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=strict
${writable}RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service @pkey
# Else a call that a newer Node tries, and could do without, ends it.
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
`
  return { name: 'ringfs-node.service', text }
}

/** What a failover's lost tail had named becomes files again, without anybody's doing: `ringfs rebuild --if-due`, every quarter of an hour. */
export function rebuildUnits(user: string): readonly Unit[] {
  const service = `# Written by ringfs systemd node.
[Unit]
Description=ringfs: what a failover of Redis has lost, from the chunks
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
User=${user}
EnvironmentFile=/etc/ringfs/node.env
ExecStart=${quote(process.execPath)} ${quote(PROGRAM)} rebuild --if-due
# There may be more, which the next run looks at; another machine is at it.
SuccessExitStatus=${INCOMPLETE} ${ERROR_CODES.ALREADY_RUNNING}
Nice=10
IOSchedulingClass=idle
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
PrivateDevices=yes
PrivateTmp=yes
ProtectHome=read-only
ProtectSystem=strict
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
`
  const timer = `# Written by ringfs systemd node.
[Unit]
Description=ringfs: what a failover of Redis has lost, from the chunks

[Timer]
OnBootSec=15min
OnUnitInactiveSec=15min
RandomizedDelaySec=3min

[Install]
WantedBy=timers.target
`
  return [
    { name: 'ringfs-rebuild.service', text: service },
    { name: 'ringfs-rebuild.timer', text: timer },
  ]
}

/** Through mount(8) and /sbin/mount.ringfs, as a line of /etc/fstab would be. Errors: RingfsError USAGE. */
export function mountUnit(source: string, dir: string, options: string): Unit {
  if (!isAbsolute(dir)) throw new RingfsError('USAGE', `${dir}: a unit needs an absolute path`)
  const text = `# Written by ringfs systemd mount. It needs /sbin/mount.ringfs: ringfs install-mount-helper
[Unit]
Description=ringfs at ${literal(dir)}
Wants=network-online.target
After=network-online.target

[Mount]
What=${literal(source)}
Where=${literal(dir)}
Type=ringfs
Options=${literal(options === '' ? '_netdev' : `_netdev,${options}`)}
TimeoutSec=120

[Install]
WantedBy=remote-fs.target
`
  return { name: `${escapePath(dir)}.mount`, text }
}

/** As systemd-escape --path does (systemd.unit(5)): the name of a mount unit must fit its path. */
export function escapePath(path: string): string {
  const inner = path.split('/').filter((part) => part !== '' && part !== '.')
  if (inner.length === 0) return '-'
  const bytes = [...Buffer.from(inner.join('/'))]
  return bytes.map((byte, index) => escapeByte(String.fromCharCode(byte), byte, index)).join('')
}

function escapeByte(char: string, byte: number, index: number): string {
  if (char === '/') return '-'
  const isPlain = /[A-Za-z0-9:_]/.test(char) || (char === '.' && index > 0)
  return isPlain && byte < 0x80 ? char : `\\x${byte.toString(16).padStart(2, '0')}`
}

/** A % begins a specifier. */
function literal(text: string): string {
  if (/[\n\r]/.test(text)) throw new RingfsError('USAGE', 'a unit has no place for a line break')
  return text.replaceAll('%', '%%')
}

/** A word of a command line. */
function quote(word: string): string {
  return `"${literal(word).replace(/[\\"]/g, '\\$&').replaceAll('$', '$$$$')}"`
}

/** Answers its path. `prefix`: where the system's root is; '' for that of this machine. Errors: RingfsError USAGE. */
export function installUnit({ name, text }: Unit, prefix: string): string {
  const folder = join(prefix === '' ? '/' : prefix, FOLDER)
  const file = join(folder, name)
  try {
    makeFolders(folder)
    writeFileSync(`${file}.new`, text, { mode: 0o644 })
    renameSync(`${file}.new`, file)
    return file
  } catch (error) {
    throw new RingfsError('USAGE', `${file} cannot be written (${messageOf(error)}): run it as root`, { cause: error })
  }
}
