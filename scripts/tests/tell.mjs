// Shows TAP to a reader of logs: a line a file, and of what failed everything that tap says about it.

const POINT = /^( *)(not )?ok\b/
const SUBTEST = /^( *)# Subtest: /

/** Answers a function that takes TAP line by line. */
export function tapTeller(print) {
  let path = []
  // Diagnostics belong to the point above them.
  let lastFailed = false
  let yamlIndent = -1
  return (line) => {
    if (yamlIndent >= 0) {
      if (lastFailed) print(line)
      if (line.trim() === '...' && line.search(/\S/) === yamlIndent) yamlIndent = -1
      return
    }
    const subtest = SUBTEST.exec(line)
    if (subtest !== null) {
      path = [...path.slice(0, subtest[1].length / 4), line.slice(subtest[0].length)]
      return
    }
    const point = POINT.exec(line)
    if (point !== null) {
      lastFailed = point[2] !== undefined
      const depth = point[1].length / 4
      if (lastFailed && depth > 0) print(`${point[1]}in: ${path.slice(0, depth).join(' > ')}`)
      if (lastFailed || depth === 0) print(line)
      return
    }
    if (line.trim() === '---') yamlIndent = line.search(/\S/)
    else if (line.startsWith('Bail out!')) print(line)
  }
}
