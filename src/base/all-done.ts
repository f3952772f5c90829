/** As Promise.all, but settles when all have settled: nobody goes on while one of them is still at work. Throws the first failure. */
export async function allDone(works: readonly Promise<unknown>[]): Promise<void> {
  const results = await Promise.allSettled(works)
  const failed = results.find((result) => result.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}
