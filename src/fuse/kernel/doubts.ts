/**
 * Paths that were walked by names which mean something else now. The kernel walks a path by what it has cached, without asking;
 * when the open of what it found comes here, we may know that a name had changed by then. An open is answered with ESTALE in
 * that case, once: the kernel then walks the path again and asks for each name (LOOKUP_REVAL).
 */

/** Longer than a walk takes to arrive here as an open, on a busy machine, and than the kernel takes to drop a name. */
const DOUBT_MS = 300
const DOUBTS_MAX = 10_000

/** Inodes whose names changed a moment ago; a directory's stand for all that lies below it, a symlink's for all that it may lead to. */
export class Doubts {
  readonly #until = new Map<number, number>()
  #allUntilMs = -Infinity

  add({ ino, leadsOn }: { readonly ino: number; readonly leadsOn: boolean }, nowMs: number): void {
    if (ino === 0) return
    if (leadsOn || this.#until.size >= DOUBTS_MAX) this.#allUntilMs = nowMs + DOUBT_MS
    else this.#until.set(ino, nowMs + DOUBT_MS)
  }

  has(ino: number, nowMs: number): boolean {
    const isDoubtful = (this.#until.get(ino) ?? -Infinity) > nowMs
    if (!isDoubtful) this.#until.delete(ino)
    if (this.#until.size > DOUBTS_MAX / 2) this.#forgetOld(nowMs)
    return isDoubtful || this.#allUntilMs > nowMs
  }

  #forgetOld(nowMs: number): void {
    for (const [ino, untilMs] of this.#until) if (untilMs <= nowMs) this.#until.delete(ino)
  }
}
