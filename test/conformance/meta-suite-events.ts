/** MetaStore: the order of what other clients are told. */
import type { Test } from 'tap'
import type { MetaEvent } from '../../src/meta/contract.js'
import { bytes, claim, coherent, listen, newFile, ROOT, touch, until, type OpenVolume } from '../helpers/meta.js'

function text(event: MetaEvent): string {
  if (event.kind === 'entry') return `entry ${event.parent} ${event.name.toString('latin1')}`
  return 'ino' in event ? `${event.kind} ${event.ino}` : event.kind
}

export function eventClaims(t: Test, open: OpenVolume): void {
  claim(t, open, 'events of one directory come in order', async (t, volume) => {
    const [a, b] = [await volume.client(), await volume.client()]
    await coherent(b)
    const heard = listen(b)
    const wanted: string[] = []
    for (let at = 0; at < 50; at++) {
      const name = `n${at % 7}`
      wanted.push(`entry ${ROOT} ${name}`)
      if (at % 14 < 7) await touch(a, ROOT, name)
      else await a.unlink(ROOT, bytes(name))
    }
    const entries = (): string[] => heard.map(text).filter((one) => one.startsWith('entry'))
    await until('all is told', () => entries().length >= wanted.length)
    t.strictSame(entries(), wanted)
  })

  claim(t, open, 'who hears of a change sees it', async (t, volume) => {
    const [a, b] = [await volume.client(), await volume.client()]
    await coherent(b)
    const { ino } = await touch(a, ROOT, 'f', newFile({ mode: 0 }))
    const seen: Promise<boolean>[] = []
    let expected = 0
    b.onEvent((event) => {
      if (event.kind !== 'attr' || event.ino !== ino) return
      const least = expected
      seen.push(b.getattr(ino).then((attr) => attr.mode >= least))
    })
    for (let mode = 1; mode <= 30; mode++) {
      await a.setattr(ino, { mode })
      expected = mode
    }
    await until('all is told', () => seen.length >= 30)
    t.ok((await Promise.all(seen)).every(Boolean))
  })

  claim(t, open, 'a client that may have missed something says so and is not coherent', async (t, volume) => {
    const [a, b] = [await volume.client(), await volume.client()]
    await coherent(b)
    const heard = listen(b)
    volume.cut(b)
    await touch(a, ROOT, 'missed')
    volume.mend(b)
    await until('it is back', () => b.coherent)
    t.strictSame(
      heard.map(text).filter((one) => one === 'lost' || one === 'back'),
      ['lost', 'back'],
    )
    await touch(a, ROOT, 'heard')
    await until('it hears again', () => heard.map(text).includes(`entry ${ROOT} heard`))
  })
}
