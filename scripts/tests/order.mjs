// In which order the test files run: the longest first, so that at the end no long one runs alone.

/** By wall-clock time, as `npm test -- --times` tells them; what is not here is short, and comes after them. */
export const LONGEST = []

export function longestFirst(files) {
  const rank = (file) => {
    const at = LONGEST.findIndex((name) => file === `dist/test/${name}.test.js`)
    return at < 0 ? LONGEST.length : at
  }
  return files.toSorted((a, b) => rank(a) - rank(b))
}
