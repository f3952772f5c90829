/** rsync, tar and cp: everything that a file has goes there and back. */
import { join } from 'node:path'
import t from 'tap'
import { Ringfs } from '../../helpers/ringfs.js'
import { needs, newFolder, script, tryScript, up } from './programs.js'

/** One of everything: modes, owners, hard links, links, a hole, nanoseconds, attributes, ACLs, devices, names. */
function treeOf(attribute: string): string {
  return `
    mkdir -p tree/d/e tree/empty 'tree/with space' tree/ünï
    seq 1 5000 > tree/numbers; ln tree/numbers tree/d/hard; ln -s ../numbers tree/d/soft; ln -s nowhere tree/dangling
    head -c 3000000 /dev/urandom > tree/d/e/random; truncate -s 5M tree/sparse; echo end >> tree/sparse
    echo x > 'tree/with space/a b'; echo y > "tree/$(printf 'new\\nline')"; : > tree/ünï/leer
    mkfifo tree/fifo; mknod tree/null c 1 3
    chmod 4755 tree/numbers; chmod 2770 tree/d; chmod 1777 tree/empty; chmod 600 tree/d/e/random
    chown 1000:1001 tree/d/e/random; chown -h 5:6 tree/dangling; chown 7:8 tree/empty; chmod 1777 tree/empty
    setfattr -n ${attribute} -v value tree/numbers; setfattr -n ${attribute} -v 0x000102ff tree/d/e
    setfacl -m u:1000:rwx,g:50:r-- tree/d/e/random; setfacl -d -m u:1001:r-x tree/d
    touch -d '2001-02-03 04:05:06.123456789' tree/d/e/random tree/empty; touch -h -d '1999-01-01 00:00:00.5' tree/dangling
    touch -d '2038-02-01 00:00:00.000000001' tree/numbers`
}

/** Times to the nanosecond: by default those within a second are the same. */
const EXACT = '--modify-window=-1'

/** All that two copies must have in common, in words. Sizes of folders and access times are their own. */
const DESCRIBE = `
  find . -mindepth 1 -type d -printf '%P %y %m %U:%G %T@\\n' -o -mindepth 1 -printf '%P %y %m %U:%G %n %s %T@ %l\\n' | sort
  find . -print0 | sort -z | xargs -0 getfattr -h -d -m '^(user|trusted)' -e hex
  find . ! -type l -print0 | sort -z | xargs -0 getfacl -n
  find . -type f -exec sha256sum {} + | sort -k 2`

/** user, where the folder of the tests has such: a tmpfs of an old kernel has not. */
async function attributeFor(ringfs: Ringfs): Promise<string> {
  const { code } = await tryScript(ringfs, ringfs.folder, ': > probe; setfattr -n user.probe -v 1 probe')
  return code === 0 ? 'user.ringfs' : 'trusted.ringfs'
}

t.test(
  'rsync -aHAX there and back leaves nothing to do; tar with attributes and ACLs, and cp -a, copy all',
  async (t) => {
    needs(
      { program: 'rsync', debian: 'rsync' },
      { program: 'setfacl', debian: 'acl' },
      { program: 'setfattr', debian: 'attr' },
      { program: 'tar', debian: 'tar' },
    )
    const ringfs = await Ringfs.in(t)
    await up(ringfs)
    const [local, mounted] = [join(ringfs.folder, 'local'), await newFolder(ringfs, 'copies')]
    await script(ringfs, ringfs.folder, 'mkdir local')
    await script(ringfs, local, treeOf(await attributeFor(ringfs)))
    const expected = await script(ringfs, join(local, 'tree'), DESCRIBE)
    const describe = (folder: string): Promise<string> => script(ringfs, folder, DESCRIBE)

    const rsync = (from: string, to: string): Promise<string> =>
      script(
        ringfs,
        '/',
        `rsync ${EXACT} -aHAX --checksum ${from}/ ${to}/; rsync ${EXACT} -aHAX --checksum -n -i ${from}/ ${to}/`,
      )
    t.equal(await rsync(join(local, 'tree'), join(mounted, 'rsync')), '', 'nothing to do the second time')
    t.equal(await describe(join(mounted, 'rsync')), expected)
    t.equal(await rsync(join(mounted, 'rsync'), join(local, 'back')), '')
    t.equal(await describe(join(local, 'back')), expected)
    await script(ringfs, mounted, 'echo more >> rsync/d/hard; rm rsync/fifo; mv rsync/d/soft rsync/soft')
    t.equal(
      await script(
        ringfs,
        '/',
        `rsync ${EXACT} -aHAX --delete ${mounted}/rsync/ ${local}/back/; rsync ${EXACT} -aHAX --delete -n -i --checksum ${mounted}/rsync/ ${local}/back/`,
      ),
      '',
    )

    const tar = "tar --xattrs --xattrs-include='*' --acls --sparse"
    await script(ringfs, local, `${tar} -cf ${mounted}/tree.tar tree`)
    await script(ringfs, mounted, `mkdir tar; ${tar} -xpf tree.tar -C tar`)
    t.equal(await describe(join(mounted, 'tar/tree')), expected, 'tar')
    await script(ringfs, mounted, `${tar} -cf - -C tar tree | ${tar} -xpf - -C ${local}/back`)
    t.equal(await describe(join(local, 'back/tree')), expected, 'tar, back')

    await script(ringfs, mounted, `cp -a ${local}/tree cp; cp -a cp cp2; cp -a cp2 ${local}/cp3`)
    for (const copy of [join(mounted, 'cp'), join(mounted, 'cp2'), join(local, 'cp3')]) {
      t.equal(await describe(copy), expected, copy)
    }
    await ringfs.ok('down')
  },
)
