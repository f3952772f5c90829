/** What a node asks the other owners of its chunks, and what follows from their answers. */
import { addTo } from '../../base/groups.js'
import type { NodeState, RingRange } from '../../cluster/contract.js'
import type { Answers, Question } from './owners-asked.js'

/** Of each chunk in question, in the order of the ring. */
export type Owners = ReadonlyMap<number, readonly string[]>

/** Some of what a node has, and what its owners say to it. */
export interface Found {
  /** By the owner that lacks them, those that it is this node's turn to tell. */
  readonly lacking: ReadonlyMap<string, readonly number[]>
  /** Those that any owner lacks. */
  readonly doubtful: readonly number[]
  /** Those that are none of this node's business, and which all owners have. */
  readonly surplus: readonly number[]
  /** Owners that could not be asked, though they are up. */
  readonly unknown: number
  /** Copies. */
  readonly lacks: number
}

/** `shared`: what is compared as a whole, by node; null: all are asked for by their ids. */
export function questionsOf(
  owners: Owners,
  own: string,
  away: ReadonlySet<string>,
  shared: ReadonlyMap<string, readonly RingRange[]> | null,
): ReadonlyMap<string, Question> {
  const questions = new Map<string, Question>()
  for (const [id, nodes] of owners) {
    const isShared = shared !== null && nodes.includes(own)
    for (const node of nodes) {
      if (node === own || away.has(node)) continue
      let question = questions.get(node)
      if (question === undefined) {
        question = { ids: [], shared: [], ranges: shared?.get(node) ?? [] }
        questions.set(node, question)
      }
      ;(isShared ? question.shared : question.ids).push(id)
    }
  }
  return questions
}

export interface Judge {
  readonly own: string
  readonly replicas: number
  readonly away: ReadonlySet<string>
  /** Walks in vain so far: whose turn it is to tell. */
  readonly inVain: number
}

export function foundIn(owners: Owners, answers: Answers, { own, replicas, away, inVain }: Judge): Found {
  const lacking = new Map<string, number[]>()
  const doubtful: number[] = []
  const surplus: number[] = []
  let unknown = 0
  let lacks = 0
  for (const [id, nodes] of owners) {
    const told = nodes.map((node) => (node === own ? 'has' : answerOf(answers.get(node), id)))
    const having = nodes.filter((_, index) => told[index] === 'has')
    const without = nodes.filter((_, index) => told[index] === 'lacks')
    lacks += without.length
    unknown += nodes.filter((node, index) => told[index] === 'unknown' && !away.has(node)).length
    if (without.length > 0) doubtful.push(id)
    if (!nodes.includes(own) && having.length === replicas) surplus.push(id)
    // Of those that have it one is enough to tell: the owners in turn, and who is none after them.
    const turn = nodes.includes(own) ? having.indexOf(own) : having.length
    if (turn <= inVain) for (const node of without) addTo(lacking, node, id)
  }
  return { lacking, doubtful, surplus, unknown, lacks }
}

export function isAway(state: NodeState): boolean {
  return state === 'down' || state === 'gone'
}

export function answerOf(missing: ReadonlySet<number> | null | undefined, id: number): 'has' | 'lacks' | 'unknown' {
  if (missing === null || missing === undefined) return 'unknown'
  return missing.has(id) ? 'lacks' : 'has'
}
