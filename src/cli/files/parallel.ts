/** Among the items of `each`: what follows begins when all before has ended. */
export const ALL_BEFORE = Symbol('all before')

/** Runs `work` for every item, at most `limit` at once. The first failure, of `items`, too, stops taking new ones and is thrown at the end. */
export async function each<T>(
  items: AsyncIterable<T | typeof ALL_BEFORE> | Iterable<T | typeof ALL_BEFORE>,
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const running = new Set<Promise<void>>()
  const failures: unknown[] = []
  try {
    for await (const item of items) {
      if (item === ALL_BEFORE) await Promise.all(running)
      if (failures.length > 0) break
      if (item === ALL_BEFORE) continue
      const one: Promise<void> = work(item)
        .catch((error: unknown) => {
          failures.push(error)
        })
        .finally(() => running.delete(one))
      running.add(one)
      if (running.size >= limit) await Promise.race(running)
    }
  } catch (error) {
    failures.push(error)
  }
  await Promise.all(running)
  if (failures.length > 0) throw failures[0]
}
