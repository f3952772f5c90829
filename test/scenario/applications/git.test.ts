/** git, on a mount. */
import { join } from 'node:path'
import t from 'tap'
import { Ringfs } from '../../helpers/ringfs.js'
import { killUp } from '../../helpers/kill-up.js'
import { needs, newFolder, script, up } from './programs.js'

const SETTINGS = 'git config user.name tester; git config user.email tester@example.org'
const FILES =
  'for d in a b c/d; do mkdir -p $d; for i in 1 2 3 4 5 6 7 8; do seq $i 2000 > $d/$i; done; done; ln -s a/1 link; chmod +x a/2'

t.test('git: init, commit, branch, merge, gc, clone, status and fsck; and again after kill -9 of up', async (t) => {
  needs({ program: 'git', debian: 'git' })
  const ringfs = await Ringfs.in(t)
  await up(ringfs)
  const folder = await newFolder(ringfs, 'git')
  const local = join(ringfs.folder, 'local-clone')
  await script(
    ringfs,
    folder,
    `git init -q -b main one; cd one; ${SETTINGS}; ${FILES}; git add .; git commit -qm first`,
  )
  const one = join(folder, 'one')
  t.equal(await script(ringfs, one, 'git status --porcelain'), '', 'nothing changed')

  await script(ringfs, one, 'echo changed >> a/1; git mv b/1 b/one; rm b/2; echo new > new')
  t.equal(await script(ringfs, one, 'git status --porcelain'), ' M a/1\n D b/2\nR  b/1 -> b/one\n?? new\n')
  await script(ringfs, one, 'git add -A; git commit -qm second; git checkout -qb side HEAD~1; echo side > side')
  await script(ringfs, one, 'git add side; git commit -qm third; git checkout -q main; git merge -q -m merged side')
  t.equal(await script(ringfs, one, 'git status --porcelain; cat side'), 'side\n')

  await script(ringfs, one, 'git gc -q; git repack -qad; git fsck --full --strict --no-progress')
  await script(ringfs, folder, `git clone -q one two; git clone -q one ${local}; git clone -q file://$PWD/one three`)
  await script(ringfs, folder, `git clone -q ${local} four; git -C four fsck --full --strict --no-progress`)
  for (const clone of ['two', 'three', 'four']) {
    t.equal(await script(ringfs, join(folder, clone), 'git status --porcelain'), '', clone)
    await script(ringfs, folder, `diff -r --no-dereference --exclude=.git one ${clone}`)
  }

  await script(ringfs, one, 'echo last > last; git add last; git commit -qm last')
  await killUp(ringfs)
  await up(ringfs)
  t.equal(await script(ringfs, one, 'git status --porcelain; git log --format=%s -1'), 'last\n')
  await script(ringfs, one, 'git fsck --full --strict --no-progress')
  await ringfs.ok('down')
})
