/** As Promise.all, but settles when all have settled: nobody goes on while one of them is still at work. Throws the first failure. */
export async function allDone<T>(works: readonly Promise<T>[]): Promise<T[]> {
  const results = await Promise.allSettled(works)
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason
    return result.value
  })
}
