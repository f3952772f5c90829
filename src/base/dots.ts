const DOT = 0x2e

/** `.` or `..`, which every directory has and no entry may be called. */
export function isDots(name: Uint8Array): boolean {
  return isDot(name) || isDotDot(name)
}

export function isDot(name: Uint8Array): boolean {
  return name.length === 1 && name[0] === DOT
}

export function isDotDot(name: Uint8Array): boolean {
  return name.length === 2 && name[0] === DOT && name[1] === DOT
}
