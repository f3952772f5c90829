/** Which scripts have others give back their delegations: all that change what an open tells, between checks and changes. */
import { readFileSync, readdirSync } from 'node:fs'
import t from 'tap'

const FOLDER = new URL('../../../src/meta/scripts/', import.meta.url)
/** They change nothing that a delegation promises to stay as it is: the decision on delegations says why of each. */
const BESIDE = [
  ...['close', 'hold', 'intend', 'lock', 'lock-cancel', 'lock-drop', 'open', 'reap', 'register', 'reserve', 'root'],
  ...['touch', 'tx-finish', 'unlock'],
]

function changing(): Map<string, string> {
  const texts = readdirSync(FOLDER).filter((name) => name.endsWith('.lua'))
  const scripts = texts.map((name): [string, string] => [
    name.slice(0, -'.lua'.length),
    readFileSync(new URL(name, FOLDER), 'utf8'),
  ])
  return new Map(scripts.filter(([, text]) => /^-- include: .*\bmutate\b/m.test(text)))
}

t.test('every script that changes something recalls, but for those that are known not to need it', (t) => {
  const scripts = changing()
  const silent = [...scripts].filter(([, text]) => !text.includes('recall()')).map(([name]) => name)
  t.same(silent.sort(), BESIDE.sort())
  t.end()
})

t.test('nothing that reaches the end of such a script has gone past its recall', (t) => {
  for (const [name, text] of changing()) {
    if (BESIDE.includes(name)) continue
    const at = text.indexOf('local others = recall()\nif others then return others end\n')
    t.ok(at > 0, `${name} gives the refusal back`)
    const before = text.slice(0, at).replaceAll(/^local function [^]*?\nend\n/gm, '')
    t.notMatch(before, /'(HSET|HDEL|ZADD|ZREM|SET|APPEND|DEL|RPUSH|HINCRBY|SPUBLISH)'/, `${name} writes nothing before`)
    t.notMatch(
      before,
      /\b(emit|save|touchdir|relink|purge|discard|setbody|spillbody|addextents|applypart)\(/,
      `${name} changes nothing before`,
    )
  }
  t.end()
})
