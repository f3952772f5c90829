/** What people do all day: build, install, save, look, follow a log. */
import { spawn } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { Ringfs, eventually } from '../../helpers/ringfs.js'
import { needs, newFolder, script, tryScript, up } from './programs.js'

const SAVES = 100

t.test('make builds a C project, does nothing the second time, and only what is needed the third', async (t) => {
  needs({ program: 'make', debian: 'make' }, { program: 'gcc', debian: 'gcc' })
  const ringfs = await Ringfs.in(t)
  await up(ringfs)
  const folder = await newFolder(ringfs, 'project')
  const makefile = [
    'OBJECTS = main.o p1.o p2.o p3.o p4.o p5.o p6.o',
    'program: $(OBJECTS) ; gcc -o $@ $(OBJECTS)',
    '%.o: %.c ; gcc -c -o $@ $<',
    'main.o: all.h',
    'p1.o p2.o: some.h',
  ]
  await script(
    ringfs,
    folder,
    `cat > Makefile <<'END'\n${makefile.join('\n')}\nEND
    : > all.h; echo '#define FACTOR 2' > some.h
    for i in 1 2 3 4 5 6; do echo "int p$i(void) { return $i; }" > p$i.c; echo "int p$i(void);" >> all.h; done
    printf '#include "some.h"\\nint p1(void) { return FACTOR; }\\n' > p1.c
    printf '#include <stdio.h>\\n#include "all.h"\\nint main(void) { printf("%%d\\\\n", p1() + p6()); return 0; }\\n' > main.c`,
  )
  t.equal((await script(ringfs, folder, 'make -j4 | grep -c gcc; ./program')).trim(), '8\n8')
  t.match(await script(ringfs, folder, 'make'), /is up to date/)
  await script(ringfs, folder, "sleep 0.1; echo '#define FACTOR 10' > some.h")
  t.match(
    await script(ringfs, folder, 'make; ./program'),
    /^gcc -c -o p1.o p1.c\ngcc -c -o p2.o p2.c\ngcc -o program .*\n16\n$/,
  )
  await ringfs.ok('down')
})

t.test('npm install of packages from files, npm ls, npm ci, and their programs', async (t) => {
  const ringfs = await Ringfs.in(t)
  await up(ringfs)
  const folder = await newFolder(ringfs, 'app')
  const one = {
    name: 'one',
    version: '1.0.0',
    main: 'index.js',
    bin: { 'one-tool': 'tool.js' },
    files: ['*.js', 'data'],
  }
  const two = { name: 'two', version: '2.0.0', main: 'index.js', peerDependencies: { one: '1' } }
  await script(
    ringfs,
    ringfs.folder,
    `mkdir -p one/data two; echo '${JSON.stringify(one)}' > one/package.json; echo '${JSON.stringify(two)}' > two/package.json
    for i in $(seq 200); do echo "module.exports = $i" > one/data/$i.js; done
    echo 'module.exports = require("./data/7.js")' > one/index.js
    printf '#!/usr/bin/env node\\nconsole.log("tool", require("./index.js"))\\n' > one/tool.js
    echo 'module.exports = require("one") * 6' > two/index.js
    npm pack --silent ./one ./two > /dev/null`,
  )
  const npm = 'npm --offline --no-audit --no-fund --silent'
  await script(
    ringfs,
    folder,
    `echo '{"name":"app","version":"1.0.0"}' > package.json; ${npm} install ../../one-1.0.0.tgz ../../two-2.0.0.tgz`,
  )
  t.match(await script(ringfs, folder, 'npm ls --offline'), /one@1\.0\.0[^]*two@2\.0\.0/)
  t.equal(await script(ringfs, folder, 'node -p "require(\'two\')"; node_modules/.bin/one-tool'), '42\ntool 7\n')
  t.equal((await script(ringfs, folder, 'ls node_modules/one/data | wc -l')).trim(), '200')
  await script(ringfs, folder, `${npm} ci; ${npm} uninstall two; test ! -e node_modules/two; rm -rf node_modules; ls`)
  await ringfs.ok('down')
})

t.test(
  'an editor saves by rename: whoever reads sees one whole version, and the backup is the one before',
  async (t) => {
    const ringfs = await Ringfs.in(t)
    await up(ringfs)
    const folder = await newFolder(ringfs, 'edit')
    await script(ringfs, folder, 'yes 0 | head -n 5000 > text; chmod 640 text; chown 1000:1000 text')
    const save = `for i in $(seq ${SAVES}); do cp -p text text~; cp -p text .text.swp; yes $i | head -n 5000 > .text.swp; sync .text.swp; mv .text.swp text; done; : > done`
    // Every reading: 5000 equal lines.
    const read = 'until test -e done; do cat text | sort | uniq -c; done | awk \'$1 != 5000 { print "partial", $0 }\''
    const [, partial] = await Promise.all([script(ringfs, folder, save), script(ringfs, folder, read)])
    t.equal(partial, '')
    t.equal(
      await script(ringfs, folder, "head -n 1 text text~; stat -c '%a %u:%g' text"),
      `==> text <==\n${SAVES}\n\n==> text~ <==\n${SAVES - 1}\n640 1000:1000\n`,
    )
    t.equal(await script(ringfs, folder, 'ls -A'), 'done\ntext\ntext~\n')
    await ringfs.ok('down')
  },
)

t.test('find -newer, du, df, dd conv=fsync, sort, grep -r and touch -r say what is so', async (t) => {
  const ringfs = await Ringfs.in(t)
  await up(ringfs)
  const folder = await newFolder(ringfs, 'look')
  await script(
    ringfs,
    folder,
    // The kernel's times are those of its clock ticks.
    'mkdir d; echo old > d/old; sleep 0.1; : > mark; sleep 0.1; echo new > d/new; echo later >> d/old; touch -r mark d/same',
  )
  t.equal(await script(ringfs, folder, 'find . -type f -newer mark | sort'), './d/new\n./d/old\n')
  t.equal(
    await script(ringfs, folder, 'find . -type f ! -newer mark | sort; grep -rl later .'),
    './d/same\n./mark\n./d/old\n',
  )
  await script(ringfs, folder, 'dd if=/dev/urandom of=big bs=64k count=64 conv=fsync status=none; truncate -s 1G hole')
  t.equal(
    await script(ringfs, folder, 'stat -c %s big hole; du --apparent-size -b big | cut -f 1'),
    '4194304\n1073741824\n4194304\n',
  )
  t.equal(await script(ringfs, folder, 'du -k big hole | cut -f 1'), '4096\n0\n', 'a hole takes no space')
  t.match(
    await script(ringfs, folder, 'df -P -T . | tail -n 1'),
    /^ringfs:ringfs +fuse\.ringfs +[1-9]\d+ +\d+ +[1-9]\d+ /,
  )
  t.match(await script(ringfs, folder, 'df -P -i . | tail -n 1'), /^ringfs:ringfs +[1-9]\d+ +\d+ +[1-9]\d+ /)
  await script(
    ringfs,
    folder,
    'seq 200000 | sort -R -T . > mixed; sort -n -T . -S 1M mixed > sorted; seq 200000 | cmp - sorted',
  )
  await ringfs.ok('down')
})

t.test('tail -f on a second mount sees the lines that the first appends', async (t) => {
  const ringfs = await Ringfs.in(t)
  await up(ringfs)
  const second = join(ringfs.folder, 'second')
  await mkdir(second)
  await ringfs.ok('mount', ringfs.runFile()?.metaUrl ?? '', second, '--detach')
  await script(ringfs, ringfs.mountpoint, 'echo first > log')
  const tail = spawn('sh', ['-c', 'exec tail -n +1 -s 0.1 -f "$0/log"', second], {
    env: ringfs.env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => tail.kill('SIGKILL'))
  let seen = ''
  tail.stdout.on('data', (data: Buffer) => (seen += data.toString()))
  const lines = (expected: string): Promise<string> =>
    eventually(
      'tail saw it',
      () => seen,
      (text) => text === expected,
    )
  await lines('first\n')
  let expected = 'first\n'
  for (const line of ['second', 'third', 'fourth']) {
    await script(ringfs, ringfs.mountpoint, `echo ${line} >> log`)
    expected += `${line}\n`
    await lines(expected)
  }
  tail.kill()
  t.equal(await script(ringfs, second, 'cat log'), expected)
  t.equal((await tryScript(ringfs, second, 'echo fifth >> log')).code, 0)
  t.equal(await script(ringfs, ringfs.mountpoint, 'cat log'), `${expected}fifth\n`)
  await ringfs.ok('umount', second)
  await ringfs.ok('down')
})
