// Counts the assertions in TAP 14 output with subtests (https://testanything.org/tap-version-14-specification.html).

const POINT = /^( *)(not )?ok\b(.*)$/
const DIRECTIVE = /\s# (?:SKIP|TODO)\b/i
const FILE_HEADING = /^# Subtest: (.+)$/

/**
 * `files`: each must appear and assert something, or it counts as one failure (a runner that died half-way, for one).
 *
 * A point that closes a subtest repeats the points inside it and is not counted again; but one that failed although
 * nothing inside did (a process that crashed, a time-out, a wrong plan) counts as a failure of its own.
 */
export function countTap(text, files) {
  const counts = { passed: 0, failed: 0, skipped: 0 }
  const silent = new Set(files)
  // What was counted at each depth of indentation since the last point that closed it.
  const open = []
  let file = ''
  let yamlIndent = -1
  for (const line of text.split('\n')) {
    const indent = line.search(/\S/)
    // The diagnostics between '---' and '...' are free text.
    if (yamlIndent >= 0) {
      if (indent === yamlIndent && line.trim() === '...') yamlIndent = -1
      continue
    }
    if (line.trim() === '---') {
      yamlIndent = indent
      continue
    }
    file = FILE_HEADING.exec(line)?.[1] ?? file
    const match = POINT.exec(line)
    if (match === null) continue
    const depth = match[1].length / 4
    const inside = takeInside(open, depth)
    const failed = match[2] !== undefined
    const skipped = DIRECTIVE.test(match[3])
    if (depth > 0) silent.delete(file)
    const at = (open[depth] ??= { points: 0, failures: 0 })
    at.points += inside.points
    at.failures += inside.failures
    if (inside.points > 0 && !(failed && inside.failures === 0)) continue
    at.points += 1
    if (skipped) counts.skipped += 1
    else if (failed) {
      counts.failed += 1
      at.failures += 1
    } else if (depth > 0) counts.passed += 1
  }
  counts.failed += silent.size
  return counts
}

function takeInside(open, depth) {
  const inside = { points: 0, failures: 0 }
  for (const level of open.splice(depth + 1)) {
    inside.points += level?.points ?? 0
    inside.failures += level?.failures ?? 0
  }
  return inside
}
