/** System calls that Node does not have, made by perl. */
import { runCommand } from '../../src/fuse/command.js'

const TIMEOUT_MS = 120_000
const AT_FDCWD = -100

/** asm/unistd.h. */
const NUMBERS = { x64: { renameat2: 316 }, arm64: { renameat2: 276 } } as const

export const RENAME_NOREPLACE = 1
export const RENAME_EXCHANGE = 2
export const RENAME_WHITEOUT = 4

/** 'ok' or the errno's name. */
export async function perlOutcome(script: string, ...args: readonly string[]): Promise<string> {
  const code = `use Errno; my ($r) = do { ${script} }; print $r ? 'ok' : (grep { $!{$_} } keys %!)[0]`
  const { exitCode, output, timedOut } = await runCommand('perl', ['-MFcntl', '-e', code, ...args], TIMEOUT_MS)
  if (exitCode !== 0) throw new Error(`perl: ${timedOut ? 'timed out' : output}`)
  return output.trim()
}

export function renameat2(from: string, to: string, flags: number): Promise<string> {
  const { renameat2: number } = process.arch === 'arm64' ? NUMBERS.arm64 : NUMBERS.x64
  return perlOutcome(`syscall(${number}, ${AT_FDCWD}, $ARGV[0], ${AT_FDCWD}, $ARGV[1], ${flags}) == 0`, from, to)
}
